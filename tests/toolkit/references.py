"""What docstrings, comments and documents refer to by name is there: files, documents, decisions, modules, members.

``python -m tests.toolkit.references`` lists what is not; ``make check`` runs it, and so does
``tests/project/test_references.py``. All is read as text and as syntax trees, and nothing is imported.

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

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

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
_WORD = re.compile(r"[A-Za-z_]\w+")


class Reference(NamedTuple):
    """Something that a text names. place: ``file:line`` from the root of the repository."""

    place: str
    name: str


@dataclass
class Module:
    """A module, by what its syntax tree has.

    name: with dots, as it is imported; a package's has no ``__init__``.
    members: the names that it has, and the class behind each that is one.
    imported: what it calls modules and members of others: each with its name with dots.
    texts: its docstrings, comments and the strings below assignments: line and text.
    """

    name: str
    path: Path
    members: dict[str, Class | None] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    texts: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Class:
    """A class. bases: names as they are written; members: of its own, and what its methods set on ``self``."""

    name: str
    bases: list[str] = field(default_factory=list)
    members: set[str] = field(default_factory=set)


class Project:
    """The modules, classes, files and words of a repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[str, Module] = {}
        self.classes: dict[str, list[Class]] = defaultdict(list)
        self.words: set[str] = set()
        self.strings: list[str] = []
        self.rooms = {path.parent.name for path in root.glob("*/__init__.py")} | {"tests"}
        self.tops = {path.name for path in root.iterdir() if not path.name.startswith(".")}
        self.files: set[str] = {path.name for path in root.iterdir()}
        self.made: set[str] = set()  # directories that git ignores, for what is made here
        for top in sorted(self.rooms | {"docs", "scripts", "compose", "examples"}):
            for path in (root / top).rglob("*"):
                self.files.add(path.name)
                if path.name == ".gitignore":
                    where = path.parent.relative_to(root)
                    self.made |= {f"{where}/{line.strip('/')}/" for line in path.read_text().split()}
                if path.suffix == ".py" and top in self.rooms:
                    self._read(path)
        self.decisions = {int(path.name[:4]) for path in root.glob("docs/decisions/[0-9]*.md")}
        self.owners = {name.rpartition(".")[2].lower() for name in [*self.modules, *self.classes]}

    def _read(self, path: Path) -> None:
        parts = path.relative_to(self.root).with_suffix("").parts
        source = path.read_text()
        module = Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path)
        self.modules[module.name] = module
        reader = _Reader(module, self.words, self.strings)
        reader.visit(ast.parse(source))
        for each in reader.classes:
            self.classes[each.name].append(each)
        module.texts += _comments(source)

    def is_text(self, name: str) -> bool:
        """Whether the code has this name in a string: of a file, say, or of a right."""
        return any(name in string for string in self.strings)

    def package(self, module: Module) -> str:
        return module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]

    def has(self, name: str) -> bool:
        """Whether a name with dots, from the top, is a module or a member of one."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            module = self.modules.get(".".join(parts[:length]))
            if module is not None:
                return self._has_members(module, parts[length:])
        return False

    def _has_members(self, module: Module, parts: list[str]) -> bool:
        if not parts:
            return True
        if parts[0] not in module.members:
            return any(owner is not None and self.inherits(owner, parts[0]) for owner in module.members.values())
        if len(parts) == 1 or (owner := self._class(module, parts[0])) is None:
            return True
        return self.inherits(owner, parts[1])

    def _class(self, module: Module, name: str) -> Class | None:
        if module.members[name] is not None:
            return module.members[name]
        source, _, original = module.imported.get(name, "").rpartition(".")
        origin = self.modules.get(source)
        return self._class(origin, original) if origin is not None and original in origin.members else None

    def inherits(self, owner: Class, member: str) -> bool:
        """Whether a class has a member, by itself or from its bases; one with a base from elsewhere may have any."""
        if member in owner.members:
            return True
        for base in owner.bases:
            known = self.classes.get(base.rpartition(".")[2])
            if known is None or any(self.inherits(each, member) for each in known if each is not owner):
                return base not in _BARE_BASES
        return False


_BARE_BASES: Final = {"object", "Protocol", "ABC", "Enum", "Generic", "Exception"}
"""Bases from elsewhere that have no members which texts speak of."""


class _Reader(ast.NodeVisitor):
    """Collects what a module has, the texts in it, and the words of its code."""

    def __init__(self, module: Module, words: set[str], strings: list[str]) -> None:
        self.module = module
        self.words = words
        self.strings = strings
        self.classes: list[Class] = []
        self._owners: list[Class | None] = []  # of what stands around: a class, or a function
        self._prose: set[int] = set()

    def visit(self, node: ast.AST) -> None:
        for part in getattr(node, "body", None) or () if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            value = part.value if isinstance(part, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                self._prose.add(id(value))
                self.module.texts.append((value.lineno, value.value))
        super().visit(node)

    def _define(self, name: str, owner: Class | None = None) -> None:
        self.words.add(name)
        if not self._owners:
            self.module.members[name] = owner
        elif self._owners[-1] is not None:
            self._owners[-1].members.add(name)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        owner = Class(node.name, [ast.unparse(base).partition("[")[0] for base in node.bases])
        self.classes.append(owner)
        self._define(node.name, owner)
        self._inside(node, owner)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._define(node.name)
        self._inside(node, None)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def _inside(self, node: ast.AST, owner: Class | None) -> None:
        self._owners.append(owner)
        self.generic_visit(node)
        self._owners.pop()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._define(alias.asname or alias.name.partition(".")[0])
            self.module.imported[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._define(alias.asname or alias.name)
            self.module.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._define(node.id)
        self.words.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.words.add(node.attr)
        if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self":
            owners = [owner for owner in self._owners if owner is not None]
            if owners:
                owners[-1].members.add(node.attr)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self.words.add(node.arg)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        self.words.add(node.arg or "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if id(node) not in self._prose:
            if isinstance(node.value, str):
                self.strings.append(node.value)
                self.words.update(_WORD.findall(node.value))
            elif isinstance(node.value, bytes):
                self.words.update(_WORD.findall(node.value.decode("latin-1")))


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Comments that have a line of their own, or stand two spaces behind the code."""
    for number, line in enumerate(source.splitlines(), 1):
        _, mark, comment = (" " * 2 + line).partition("  # ")
        if mark:
            yield number, comment


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
        if not _is_path(project, found[0], module):
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
    if _DATA.fullmatch(name):
        return True
    if "/" in name:
        return not _PATH.fullmatch(name) or _is_path(project, name, module)
    if dotted := _DOTTED.fullmatch(name):
        return _is_member(project, dotted[1], module)
    if module is not None and (single := _SINGLE.fullmatch(name)):
        return single[1] in project.words or single[1] in project.files or f"{single[1]}.py" in project.files
    return True


def _is_path(project: Project, name: str, module: Module | None) -> bool:
    first = name.partition("/")[0]
    if (
        name in project.made
        or first not in project.tops
        or not (name.endswith("/") or _FILE.fullmatch(name.rpartition("/")[2]))
    ):
        return True  # an image, a path of somebody else's
    places = [project.root, *([module.path.parent] if module is not None else [])]
    return any(any(place.glob(name)) for place in places)


def _is_member(project: Project, name: str, module: Module | None) -> bool:
    first, _, rest = name.partition(".")
    if first in project.rooms:
        beside = f"{first}.{name}"  # images/images.py is called images in its room
        return project.has(name) or (module is not None and module.name.startswith(f"{first}.") and project.has(beside))
    if module is not None:
        if (beside := f"{project.package(module)}.{first}") in project.modules:
            return project.has(f"{beside}.{rest}") or first in module.members or project.is_text(name)
        source = module.imported.get(first)
        if source in project.modules:
            return project.has(f"{source}.{rest}")
    if first in project.classes:
        member = rest.partition(".")[0]
        return any(project.inherits(owner, member) for owner in project.classes[first])
    if module is None or first in sys.stdlib_module_names:
        return True
    elsewhere = [other for other in project.modules if other.endswith(f".{first}")]
    known = any(project.has(f"{other}.{rest}") for other in elsewhere) if elsewhere else first in project.words
    return known or project.is_text(name)


def main() -> int:
    """List what leads nowhere. The exit status: 1 if there is something."""
    found = broken(Path(__file__).parents[2])
    for each in found:
        print(f"{each.place}: {each.name} leads nowhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
