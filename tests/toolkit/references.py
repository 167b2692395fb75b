"""What docstrings, comments and documents refer to by name is there: files, documents, decisions, modules, members.

``python -m tests.toolkit.references`` lists what is not; ``make check`` runs it, and so does
``tests/project/test_references.py``. ``tests.toolkit.codebase`` has what there is.

A reference is one of these:

- in backticks, a path of this repository: from its root, from the file's own directory, or a file's bare name;
- in backticks, a name with dots that begins with a room (``builder``), with a module beside the file or imported by
  it, or with a class of the project: a module, or a member of a module or of a class, whatever it inherits. What begins
  as a module does may also be a value of one of its classes: ``store.blobs``;
- in backticks, a single name of several words, as functions and classes have it: some code has to have it, be it as
  text;
- what follows a possessive is somebody else's where no module or class is called so: billiard's ``leave_pool``;
- anywhere, a file of this repository by its path, a decision by its number, a page by its name (of a specification, or
  behind a possessive, it is somebody else's), and a path that leads upwards, which may not leave the repository. This
  holds for scripts, the Makefile and deployment files, too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.toolkit.codebase import Module, Project

_BACKTICKS = re.compile(r"(?:\b(\w+)'s )?(?:``([^`]+)``|(?<!`)`([^`\n]+)`(?!`))")
_DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(\))?")
_SINGLE = re.compile(r"(_?[a-z]+(?:_[a-z0-9]+)+|(?:[A-Z][a-z0-9]+){2,})(?:\(\))?")
_DATA = re.compile(r".*\.(?:json|db|log|key|cert|pem|git|test|io|d|yml)")
_FILE = re.compile(r"[\w*-][\w*.-]*\.(?:py|md|html|js|css|lark|sql|case|toml|yaml|sh)")
_PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
_PLAIN_PATH = re.compile(r"(?<![\w/.<{-])[a-z_]+(?:/[\w-]+)+\.(?:py|md|yaml|lark|sql)\b")
_DECISION = re.compile(r"\bdecisions? (\d+)\b|\bdecisions/(\d{4})")
_UPWARDS = re.compile(r"(?<![\w/.`])(?<!\]\()(?:\.\./)+\w[\w./-]*\w")
_PAGE = re.compile(r"(?:(\w+)'s )?(?<![\w/.`-])([A-Za-z][\w-]*\.md)\b")
_SPECIFICATION = re.compile(r"[Ss]pec\b|[Ss]pecs\b|-spec")


class Reference(NamedTuple):
    """Something that a text names. place: ``file:line`` from the root of the repository."""

    place: str
    name: str


def broken(root: Path) -> list[Reference]:
    """The references of a repository's modules and documents that lead nowhere."""
    project = Project(root)
    found = []
    for module in project.modules.values():
        place = module.path.relative_to(root)
        for line, text in module.texts:
            found += [Reference(f"{place}:{line + below}", name) for below, name in _wrong(project, text, module)]
    for path in _other_files(root):
        wrong = _wrong(project, path.read_text(), None)
        found += [Reference(f"{path.relative_to(root)}:{1 + below}", name) for below, name in wrong]
    return found


def _other_files(root: Path) -> list[Path]:
    """Documents, but for the one that tells of the past, and what has no docstrings."""
    patterns = (
        "*.md",
        "docs/**/*.md",
        "examples/*.md",
        "scripts/*",
        "compose/[!.]*",
        "compose/systemd/*",
        "Makefile",
        "*.toml",
    )
    return sorted(
        path for pattern in patterns for path in root.glob(pattern) if path.is_file() and path.name != "CHANGELOG.md"
    )


def _wrong(project: Project, text: str, module: Module | None) -> Iterator[tuple[int, str]]:
    """The references of a text that lead nowhere, each with the number of its line, from 0."""
    wrong = [*_wrong_anywhere(project, text, module), *_wrong_in_backticks(project, text, module)]
    yield from dict.fromkeys((text.count("\n", 0, start), name) for start, name in wrong)


def _wrong_anywhere(project: Project, text: str, module: Module | None) -> Iterator[tuple[int, str]]:
    if module is not None:  # documents' links are resolved by a test of their own; scripts lay links in other trees
        for found in _UPWARDS.finditer(text):
            target = (module.path.parent / found[0]).resolve()
            if not (target.is_relative_to(project.root) and target.exists()):
                yield found.start(), found[0]
    for found in _PAGE.finditer(text):
        is_others = found[1] is not None and found[1].lower() not in project.owners
        is_standard = _SPECIFICATION.search(text, max(0, found.start() - 80), found.start(2))
        if found[2] not in project.files and not is_others and not is_standard:
            yield found.start(2), found[2]
    for found in _PLAIN_PATH.finditer(text):
        is_ours = found[0].partition("/")[0] in project.tops
        if is_ours and not _is_path(project, found[0], module):
            yield found.start(), found[0]
    for found in _DECISION.finditer(text):
        if int(found[1] or found[2]) not in project.decisions:
            yield found.start(), found[0]


def _wrong_in_backticks(project: Project, text: str, module: Module | None) -> Iterator[tuple[int, str]]:
    for found in _BACKTICKS.finditer(text):
        owner, name = found[1], found[2] or found[3]
        is_others = owner is not None and owner.lower() not in project.owners
        if not is_others and not _leads_somewhere(project, name, module):
            yield found.start(), name


def _leads_somewhere(project: Project, name: str, module: Module | None) -> bool:
    if _FILE.fullmatch(name):
        return module is None or name in project.files or "*" in name
    if _DATA.fullmatch(name) and (name.partition(".")[0] not in project.rooms or project.is_text(name)):
        return True
    if "/" in name:
        return not _PATH.fullmatch(name) or _is_path(project, name, module)
    if dotted := _DOTTED.fullmatch(name):
        return _is_member(project, dotted[1], module)
    if module is not None and (single := _SINGLE.fullmatch(name)):
        return single[1] in project.words or single[1] in project.files or f"{single[1]}.py" in project.files
    return True


def _is_path(project: Project, name: str, module: Module | None) -> bool:
    """Whether a path leads to something: from the root, from the file's own directory, or as the end of a path."""
    first, _, rest = name.partition("/")
    is_file = _FILE.fullmatch(name.rpartition("/")[2]) is not None
    if first in project.tops and name not in project.made and (is_file or name.endswith("/") or first == "scripts"):
        places = [project.root, *([module.path.parent] if module is not None else [])]
        return any(any(place.glob(name)) for place in places)
    is_ending = module is not None and is_file and rest and "*" not in name
    return not is_ending or any(path.endswith(f"/{name}") for path in project.paths)


def _is_member(project: Project, name: str, module: Module | None) -> bool:
    """Whether a name with dots is a module or a member, by what it begins with; other people's may be anything."""
    first, _, rest = name.partition(".")
    if first in project.rooms:
        in_room = module is not None and module.name.startswith(f"{first}.")
        # images/images.py is called images in its room
        return project.has(name) or (in_room and project.has(f"{first}.{name}", by_value=True))
    if module is not None and (beside := f"{project.package(module)}.{first}") in project.modules:
        is_there = project.has(f"{beside}.{rest}", by_value=True)
        return is_there or _is_value(module, first, beside) or project.is_text(name)
    if module is not None and (source := module.imported.get(first)) in project.modules:
        return project.has(f"{source}.{rest}", by_value=True)
    if first in project.classes:
        return any(project.inherits(owner, rest.partition(".")[0]) for owner in project.classes[first])
    return module is None or first in sys.stdlib_module_names or _is_elsewhere(project, first, rest)


def _is_elsewhere(project: Project, first: str, rest: str) -> bool:
    """Whether a module of another package is called so and has it; else whether the code knows the word or the text."""
    same = [name for name in project.modules if name.endswith(f".{first}")]
    if any(project.has(f"{name}.{rest}", by_value=True) for name in same):
        return True
    return (not same and first in project.words) or project.is_text(f"{first}.{rest}")


def _is_value(module: Module, name: str, beside: str) -> bool:
    """Whether a module has something of this name that is not the module beside it."""
    return name in module.members and module.imported.get(name) != beside


def main() -> int:
    """List what leads nowhere. The exit status: 1 if there is something."""
    found = broken(Path(__file__).parents[2])
    for each in found:
        print(f"{each.place}: {each.name} leads nowhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
