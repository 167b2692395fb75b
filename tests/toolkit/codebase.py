"""A repository's modules, classes, files and words, read as text and as syntax trees: nothing is imported."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_WORD = re.compile(r"[A-Za-z_]\w+")


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
        self.paths: list[str] = []  # each with a slash before it
        self.made: set[str] = set()  # directories that git ignores, for what is made here
        for top in sorted(self.rooms | {"docs", "scripts", "compose", "examples"}):
            for path in (root / top).rglob("*"):
                self.files.add(path.name)
                self.paths.append(f"/{path.relative_to(root).as_posix()}")
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

    def has(self, name: str, *, by_value: bool = False) -> bool:
        """Whether a name with dots, from the top, is a module or a member of one.

        by_value: what follows the module may also be a member of one of its classes, as ``store.blobs`` is.
        """
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            module = self.modules.get(".".join(parts[:length]))
            if module is not None:
                return self._has_members(module, parts[length:], by_value=by_value)
        return False

    def _has_members(self, module: Module, parts: list[str], *, by_value: bool) -> bool:
        if not parts:
            return True
        if parts[0] not in module.members:
            classes = [owner for owner in module.members.values() if owner is not None] if by_value else []
            return any(self.inherits(owner, parts[0]) for owner in classes)
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
        return member in owner.members or any(self._gives(base, member, owner) for base in owner.bases)

    def _gives(self, base: str, member: str, heir: Class) -> bool:
        name = base.rpartition(".")[2]
        if name in _BASES_FROM_ELSEWHERE:
            return member in _BASES_FROM_ELSEWHERE[name]
        known = [each for each in self.classes.get(name, ()) if each is not heir]
        return not known or any(self.inherits(each, member) for each in known)


_BASES_FROM_ELSEWHERE: Final[dict[str, set[str]]] = {
    "Exception": {"args", "add_note", "with_traceback"},
    "Generic": set(),
    "IntEnum": {"name", "value"},
    "NamedTuple": {"_asdict", "_fields", "_make", "_replace"},
    "Protocol": set(),
    "StrEnum": {"name", "value"},
    "Struct": set(),
    "object": set(),
}
"""What bases that have few members give to a class."""


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
