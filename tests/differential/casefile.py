"""Reading ``cases/*.case``: many small builds as text.

A file holds cases, each ``=== NAME``, then options (lines that begin with ``@``), then the Dockerfile. Without a FROM
(and without ``@bare``) it begins with ``FROM base``. The context is the one of `context.py`, changed by the options:

    @rejects WORDS       both builders must refuse; without it both must succeed. WORDS: of Shiplap's message
    @differs REASON      the builders do not agree, on purpose, and this is why; a case that says so and agrees fails.
                         It has @rejects where Shiplap refuses (BuildKit then need not), and else:
    @ours LINE           what Shiplap's image has and base has not, a line each, as `outcomes.py` describes images
    @file PATH CONTENT   a file more, or another content; \\n and \\t are escapes
    @ignore LINE         a line of .dockerignore
    @link PATH TARGET    a symbolic link
    @mode PATH OCTAL     chmod
    @arg NAME=VALUE      --build-arg
    @archive NAME        a tar more in the context: one of those that `context.py` can make
    @label NAME=VALUE    --label
    @target STAGE        --target
    @platform PLATFORM   --platform
    @secret ID CONTENT   --secret, from a file
    @ssh                 --ssh default=KEY, a key that is made for it
    @context NAME=VALUE  --build-context; ./ is below the context
    @of URL              the context is what is there, and the case has no Dockerfile of its own

FILES_URL, GIT_URL and GIT_COMMIT stand for what `servers.py` serves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FROM = re.compile(r"^\s*FROM\b", re.IGNORECASE | re.MULTILINE)
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


@dataclass(slots=True)
class Case:
    """One build, and what is to be expected of it.

    rejects: words of Shiplap's message; empty when it builds.
    differs: empty, or the reason why the results are not the same.
    ours: of a case that differs, what Shiplap's image has and base has not.
    """

    theme: str
    name: str
    dockerfile: str = ""
    rejects: str = ""
    differs: str = ""
    ours: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    archives: list[str] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    ignore: str = ""
    args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    ssh: bool = False
    contexts: dict[str, str] = field(default_factory=dict)
    of: str = ""

    @property
    def changes_context(self) -> bool:
        return bool(self.files or self.links or self.modes or self.archives)


def read_cases(directory: Path) -> list[Case]:
    """All cases of a directory. Raises ValueError for a line that is no option, and for two cases of one name."""
    cases = [case for path in sorted(directory.glob("*.case")) for case in parse_cases(path.stem, path.read_text())]
    names = [(case.theme, case.name) for case in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two cases of one name: {sorted(twice)}")
    return cases


def parse_cases(theme: str, text: str) -> list[Case]:
    """The cases of one file. What stands before the first is a comment."""
    return [_parse_case(theme, block) for block in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]]


def _parse_case(theme: str, block: str) -> Case:
    name, _, rest = block.partition("\n")
    case = Case(theme, name.strip())
    bare = False
    while rest.startswith("@"):
        line, _, rest = rest.partition("\n")
        option, _, value = line[1:].partition(" ")
        if option == "bare":
            bare = True
        else:
            _set(case, option, value)
    if "\n@rejects\n" in block:
        raise ValueError(f"{theme}: {case.name}: @rejects says nothing of Shiplap's message")
    if bool(case.differs and not case.rejects) != bool(case.ours):
        raise ValueError(f"{theme}: {case.name}: a case that differs, and no other, says what Shiplap's image is")
    bare = bare or _FROM.search(rest) is not None
    case.dockerfile = rest.rstrip("\n") + "\n" if bare else f"FROM base\n{rest.rstrip()}\n"
    return case


def _set(case: Case, option: str, value: str) -> None:
    match option:
        case "rejects":
            case.rejects = value
        case "differs":
            case.differs = value
        case "ours":
            case.ours.append(value)
        case "file":
            path, _, content = value.partition(" ")
            case.files[path] = re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], content)
        case "ignore":
            case.ignore += value + "\n"
            case.files[".dockerignore"] = case.ignore
        case "link":
            path, target = value.split()
            case.links[path] = target
        case "mode":
            path, mode = value.split()
            case.modes[path] = int(mode, 8)
        case "arg":
            key, _, case.args[key] = value.partition("=")
        case "archive":
            case.archives.append(value)
        case "label":
            key, _, case.labels[key] = value.partition("=")
        case "target":
            case.target = value
        case "platform":
            case.platform = value
        case "secret":
            key, _, case.secrets[key] = value.partition(" ")
        case "ssh":
            case.ssh = True
        case "context":
            key, _, case.contexts[key] = value.partition("=")
        case "of":
            case.of = value
        case _:
            raise ValueError(f"{case.theme}: {case.name}: no such option: @{option}")
