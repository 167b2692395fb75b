"""The parsers: Lark's LALR tables of the ``.lark`` files, read from ``<name>.table.json`` instead of being computed.

The files are generated (``python -m dockerfile_grammar.generate``) and shipped with the package. A test fails when one
lags behind its grammar. They are JSON, so that reading them runs no code. If another version of Lark made them than the
installed one, the tables are computed from the grammar, which takes some 0.05 s each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from lark import Lark, UnexpectedInput

Table: TypeAlias = dict[str, Any]

GRAMMARS: dict[str, tuple[str, ...]] = {
    "instruction": ("start",),
    "word": ("word", "body", "heredoc"),
    "json": ("start",),
    "mount": ("start",),
}
"""The grammars and their start rules."""

_ESCAPE_MARK = "␛"
_ESCAPE_IN_REGEXP = {"\\": r"\\", "`": "`"}
# The tables hold the mark too: only the terminals' regular expressions differ between the escape characters.
_MARK_IN_JSON = json.dumps(_ESCAPE_MARK)[1:-1]


def parser(name: str, *, escape: str = "\\", transformer: object = None) -> Lark:
    """Make the parser of a grammar.

    escape: the file's escape character.
    transformer: has a method for each rule, called as the rule is recognised; without one, parsing gives a Lark tree.

    A parser is thread-safe. Keep it: making one takes milliseconds.
    """
    import lark

    text = _read(f"{name}.table.json").replace(_MARK_IN_JSON, json.dumps(_ESCAPE_IN_REGEXP[escape])[1:-1])
    document = json.loads(text)
    if document["lark"] != lark.__version__:
        return compute(name, escape=escape, transformer=transformer)
    table = _with_integer_keys(document["table"])
    load: Callable[..., Lark] = lark.Lark._load_from_dict
    return load(table["data"], table["memo"], transformer=transformer)


def error_position(error: UnexpectedInput, text: str) -> int:
    """Where in ``text`` the parser stopped; ``len(text)`` when it wanted more."""
    from lark import UnexpectedToken

    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return len(text)
    return len(text) if error.pos_in_stream is None else error.pos_in_stream


def compute(name: str, *, escape: str, transformer: object = None) -> Lark:
    """Make a parser from its grammar, without the shipped table."""
    from lark import Lark

    return Lark(
        _read(f"{name}.lark").replace(_ESCAPE_MARK, _ESCAPE_IN_REGEXP.get(escape, escape)),
        parser="lalr",
        lexer="contextual",
        start=list(GRAMMARS[name]),
        maybe_placeholders=False,
        transformer=transformer,
    )


def generate(name: str) -> str:
    """The text of ``<name>.table.json`` for the grammar and the Lark at hand."""
    import lark
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    data, memo = compute(name, escape=_ESCAPE_MARK).memo_serialize([TerminalDef, Rule])
    document = {"lark": lark.__version__, "grammar": digest(name), "table": {"data": data, "memo": memo}}
    return json.dumps(document, separators=(",", ":")) + "\n"


def digest(name: str) -> str:
    """Identifies a grammar's text, and with it the table made from it."""
    return hashlib.sha256(_read(f"{name}.lark").encode()).hexdigest()


def shipped_digest(name: str) -> str:
    """The ``digest`` of the grammar's text that the shipped table was made from."""
    return str(json.loads(_read(f"{name}.table.json"))["grammar"])


def _read(file: str) -> str:
    return resources.files("dockerfile_grammar").joinpath(file).read_text("utf-8")


def _with_integer_keys(table: Table) -> Table:
    """Undo what JSON does to a dict whose keys are numbers."""
    parse_table = table["data"]["parser"]["parser"]
    parse_table["tokens"] = {int(key): value for key, value in parse_table["tokens"].items()}
    parse_table["states"] = {
        int(state): {int(token): action for token, action in actions.items()}
        for state, actions in parse_table["states"].items()
    }
    table["memo"] = {int(key): value for key, value in table["memo"].items()}
    return table
