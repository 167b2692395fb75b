"""Each ``errors.py`` draws its tree of errors at the top, and the tree is the one that its classes make."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_FILES: Final = sorted(path for path in _CHECKOUT.glob("*/**/errors.py") if ".venv" not in path.parts)


def tree_of(path: Path) -> str:
    """The errors of a file, those of another file in brackets where something of this one is below them."""
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    named = [node for node in classes if node.bases and node.name.endswith("Error")]
    parents = {node.name: ast.unparse(node.bases[0]) for node in named}
    parents = {name: parent for name, parent in parents.items() if parent != "NamedTuple"}  # what an error was told
    roots = dict.fromkeys(parent for parent in parents.values() if parent not in parents)
    return "\n".join(line for root in roots for line in _drawn(root, parents, is_known=root in parents))


def _drawn(name: str, parents: dict[str, str], *, is_known: bool) -> Iterator[str]:
    yield name if is_known else f"({name})"
    yield from _below(name, parents, "")


def _below(name: str, parents: dict[str, str], margin: str) -> Iterator[str]:
    children = [child for child, parent in parents.items() if parent == name]
    for child in children:
        is_last = child == children[-1]
        yield f"{margin}{'└── ' if is_last else '├── '}{child}"
        yield from _below(child, parents, margin + ("    " if is_last else "│   "))


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_CHECKOUT)))
def test_tree_of_errors_is_drawn_on_top(path: Path) -> None:
    tree = tree_of(path)
    docstring = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    assert tree in docstring, f"the tree of {path}:\n{tree}"
