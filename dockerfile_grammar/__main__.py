"""``python -m dockerfile_grammar FILE`` prints the parse of a Dockerfile (``-``: standard input) as JSON."""

from __future__ import annotations

import json
import sys

from dockerfile_grammar.dump import dump
from dockerfile_grammar.errors import DockerfileError
from dockerfile_grammar.parsing import parse_parts


def main(arguments: list[str]) -> int:
    """The exit status: 0, or 1 with the error on standard error, or 2 for wrong usage."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m dockerfile_grammar FILE\n")
        return 2
    (name,) = arguments
    try:
        if name == "-":
            text = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                text = file.read()
        result = dump(parse_parts(text, "Dockerfile" if name == "-" else name))
    except DockerfileError as error:
        sys.stderr.write(error.render() + "\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{name}: {error.strerror}\n")
        return 1
    sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
