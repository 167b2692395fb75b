"""Small damages to the code, one at a time: what a test that deserves the name notices."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = (
    "builder", "ci", "cli", "containers", "core", "dockerfile_grammar", "engine", "images", "pipelines", "registry",
    "web", "worker",
)  # fmt: skip
_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_QUIET = ("_log.", "log.", "logging.")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One damage.

    path: of the file, from the root of the checkout.
    line: where it begins, from 1.
    start, end: the bytes of the file that ``text`` takes the place of.
    before: what stood there.
    """

    path: str
    line: int
    start: int
    end: int
    before: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {_short(self.before)} -> {_short(self.text)}"

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants_of(root: Path) -> list[Mutant]:
    """All of the rooms' code, in the order of the files; but for migrations, which are history."""
    paths = sorted(path for room in ROOMS for path in (root / room).rglob("*.py") if "versions" not in path.parts)
    return [mutant for path in paths for mutant in mutants_in(str(path.relative_to(root)), path.read_bytes())]


def mutants_in(path: str, source: bytes) -> Iterator[Mutant]:
    """Those of one file. Annotations, assertions, messages of the log and what is for the checker only have none."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for node in _worth(ast.parse(source)):
        for text in _damaged(node):
            assert isinstance(node, ast.expr | ast.stmt)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            yield Mutant(path, node.lineno, start, end, source[start:end].decode(), text)


def _worth(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are worth a damage."""
    if isinstance(node, ast.Assert) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
        return
    if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _is_log(node.value)):
        return
    if isinstance(node, ast.JoinedStr):  # the text of a message
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _worth(child)


def _damaged(node: ast.AST) -> Iterator[str]:
    """What could stand in the node's place."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _SWAPPED:
            changed = copy.deepcopy(node)
            changed.ops = [_SWAPPED[type(op)]()]
            yield f"({ast.unparse(changed)})"
        case ast.BoolOp():
            changed_bool = copy.deepcopy(node)
            changed_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"({ast.unparse(changed_bool)})"
            for value in node.values:
                yield f"({ast.unparse(value)})"
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.BinOp(op=ast.Add() | ast.Sub()) if not _is_text(node):
            changed_sum = copy.deepcopy(node)
            changed_sum.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield f"({ast.unparse(changed_sum)})"
        case ast.Constant(value=bool() as truth):
            yield str(not truth)
        case ast.Constant(value=int() as number):
            yield str(number + 1)
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Delete():
            yield "pass"
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "return None"


def _is_log(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_QUIET)


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(each, ast.JoinedStr | ast.List | ast.Tuple) for each in sides) or any(
        isinstance(each, ast.Constant) and isinstance(each.value, str | bytes) for each in sides
    )


def _short(text: str) -> str:
    return " ".join(text.split())[:80]
