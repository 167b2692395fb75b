"""``python -m dockerfile_grammar.generate`` writes the parse tables of the grammars, after a ``.lark`` file changed."""

from __future__ import annotations

from pathlib import Path

from dockerfile_grammar import tables


def main() -> None:
    """Write ``<name>.table.json`` beside each grammar."""
    for name in tables.GRAMMARS:
        Path(__file__).with_name(f"{name}.table.json").write_text(tables.generate(name), "utf-8")


if __name__ == "__main__":
    main()
