"""Parses a template's tokens into a tree, as Go's text/template/parse does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from cli.gotemplate.errors import TemplateSyntaxError
from cli.gotemplate.lexing import Token, tokens
from cli.gotemplate.nodes import (
    Action,
    Chain,
    Command,
    Constant,
    Fields,
    Function,
    If,
    Jump,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Variable,
    With,
)

_DEEPEST: Final = 50  # parentheses and blocks in each other
_LONGEST: Final = 64 * 1024  # characters
_BLOCKS: Final[dict[str, Callable[..., If | With | Range]]] = {"if": If, "with": With, "range": Range}
_REFUSED: Final = ("define", "template", "block")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")
_NAMED_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_END: Final = Token("end", "EOF", 0, 0)


def parse(text: str, functions: Mapping[str, Any]) -> tuple[Node, ...]:
    """The tree of a template. Raises TemplateSyntaxError, with Go's words.

    functions: the names that it may call.
    """
    if len(text) > _LONGEST:
        raise TemplateSyntaxError(f"template: a template has at most {_LONGEST} characters")
    return _Parser(list(tokens(text)), functions).whole()


class _Parser:
    """Recursive descent over the tokens. ``_variables`` are those that are known at this place."""

    def __init__(self, found: list[Token], functions: Mapping[str, Any]) -> None:
        self._tokens = found
        self._at = 0
        self._functions = functions
        self._variables = ["$"]
        self._depth = 0
        self._ranges = 0

    def whole(self) -> tuple[Node, ...]:
        nodes, word = self._nodes()
        if word is not None:
            self._fail(f"unexpected {{{{{word.text}}}}}", word)
        return nodes

    def _nodes(self) -> tuple[tuple[Node, ...], Token | None]:
        """What stands up to an ``end`` or ``else``, and that word; None at the end of the template."""
        found: list[Node] = []
        while (token := self._next()).kind != "end":
            if token.kind == "text":
                found.append(Text(token.text))
                continue
            word = self._peek()
            if word.kind == "word" and word.text in ("end", "else"):
                self._next()
                return tuple(found), word
            found.append(self._action())
        return tuple(found), None

    def _action(self) -> Node:
        word = self._peek()
        if word.kind == "word":
            if word.text in _BLOCKS:
                self._next()
                return self._block(word)
            if word.text in ("break", "continue"):
                self._next()
                if not self._ranges:
                    self._fail(f"{{{{{word.text}}}}} outside {{{{range}}}}", word)
                self._close(word.text)
                return Jump(word.text)
            if word.text in _REFUSED:
                self._fail(f"{{{{{word.text}}}}} is not supported", word)
        pipeline = self._pipeline("close", "command")
        return Action(pipeline)

    def _block(self, word: Token) -> Node:
        self._deeper(word)
        known = len(self._variables)
        pipeline = self._pipeline("close", word.text)
        self._ranges += word.text == "range"
        then, ending = self._nodes()
        self._ranges -= word.text == "range"
        otherwise: tuple[Node, ...] = ()
        if ending is not None and ending.text == "else":
            otherwise = self._otherwise(word)
        elif ending is None:
            self._fail("unexpected EOF", self._tokens[-1])
        else:
            self._close("end")
        del self._variables[known:]
        self._depth -= 1
        return _BLOCKS[word.text](pipeline, then, otherwise)

    def _otherwise(self, word: Token) -> tuple[Node, ...]:
        """What follows ``{{else``, with the ``end``: nodes; or ``if …`` or ``with …``, which has the same ``end``."""
        following = self._peek()
        if following.kind == "word" and following.text == word.text and word.text in ("if", "with"):
            self._next()
            return (self._block(following),)
        self._close("else")
        nodes, last = self._nodes()
        if last is None:
            self._fail("unexpected EOF", self._tokens[-1])
        if last.text == "else":
            self._fail("unexpected {{else}}", last)
        self._close("end")
        return nodes

    def _close(self, what: str) -> None:
        token = self._next()
        if token.kind != "close":
            self._fail(f"unexpected <{token.text}> in {what}", token)

    def _pipeline(self, end: str, context: str) -> Pipeline:
        variables, assigns = self._declaration(context)
        commands = []
        while True:
            commands.append(self._command(context))
            token = self._next()
            if token.kind == end:
                break
            if token.text != "|" or token.kind != "sign":
                self._fail(f"unexpected {self._shown(token)} in {context}", token)
        if not assigns:
            self._variables += variables
        for later in commands[1:]:
            if isinstance(later.operands[0], Constant):
                self._fail("non executable command in pipeline stage 2", self._tokens[self._at - 1])
        return Pipeline(tuple(commands), variables, assigns)

    def _declaration(self, context: str) -> tuple[tuple[str, ...], bool]:
        """``$a :=``, ``$a =`` or, for a range, ``$a, $b :=``; nothing is read when there is none."""
        start = self._at
        names = []
        while self._peek().kind == "variable":
            names.append(self._next().text)
            sign = self._peek()
            if sign.kind == "sign" and sign.text in (":=", "="):
                self._next()
                assigns = sign.text == "="
                for name in names:
                    if assigns and name not in self._variables:
                        self._fail(f"undefined variable {name!r}", sign)
                return tuple(names), assigns
            if not (sign.kind == "sign" and sign.text == "," and context == "range" and len(names) == 1):
                break
            self._next()
        self._at = start
        return (), False

    def _command(self, context: str) -> Command:
        operands: list[Operand] = []
        while True:
            token = self._peek()
            if token.kind in ("close", "end") or (token.kind == "sign" and token.text in ("|", ")")):
                break
            operands.append(self._operand(context))
        if not operands:
            self._fail(f"missing value for {context}", self._peek())
        first = operands[0]
        if isinstance(first, Constant):
            if first.value is None:
                self._fail("nil is not a command", self._peek())
            if len(operands) > 1:
                self._fail("can't give argument to non-function", self._peek())
        return Command(tuple(operands))

    def _operand(self, context: str) -> Operand:
        token = self._next()
        place = (token.line, token.column)
        match token.kind:
            case "string" | "raw" | "char" | "number":
                return Constant(self._constant(token))
            case "field":
                if self._at < len(self._tokens) and self._tokens[self._at].kind == "field":
                    place = (self._tokens[self._at].line, self._tokens[self._at].column)  # Go names the second's
                return Fields((token.text[1:], *self._more_fields()), *place)
            case "dot":
                return Fields((), *place)
            case "variable":
                if token.text not in self._variables:
                    self._fail(f'undefined variable "{token.text}"', token)
                return Variable(token.text, self._more_fields(), *place)
            case "word":
                return self._word(token)
        if token.text != "(":
            self._fail(f"unexpected {self._shown(token)} in {context}", token)
        self._deeper(token)
        inner = self._pipeline("closing", "parenthesized pipeline")
        self._depth -= 1
        return Chain(inner, self._more_fields(), *place)

    def _word(self, token: Token) -> Operand:
        named = {"true": True, "false": False, "nil": None}
        if token.text in named:
            return Constant(named[token.text])
        if token.text not in self._functions:
            self._fail(f'function "{token.text}" not defined', token)
        return Function(token.text, token.line, token.column)

    def _more_fields(self) -> tuple[str, ...]:
        """The fields that follow without a space."""
        names = []
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "field":
            names.append(self._tokens[self._at].text[1:])
            self._at += 1
        return tuple(names)

    def _constant(self, token: Token) -> str | int | float:
        if token.kind == "raw":
            return token.text[1:-1].replace("\r", "")
        try:
            if token.kind == "number":
                return _number(token.text)
            value = _ESCAPE.sub(_unescaped, token.text[1:-1])
        except ValueError:
            self._fail(f"invalid syntax: {token.text}", token)
        if token.kind == "string":
            return value
        if len(value) != 1:
            self._fail(f"malformed character constant: {token.text}", token)
        return ord(value)

    def _deeper(self, token: Token) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"more than {_DEEPEST} blocks in each other", token)

    def _peek(self) -> Token:
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "space":
            self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        if token.kind == "sign" and token.text == ")":
            return token._replace(kind="closing")
        return token

    @staticmethod
    def _shown(token: Token) -> str:
        return {"close": '"}}"', "end": "EOF"}.get(token.kind, f'"{token.text}"')

    @staticmethod
    def _fail(message: str, token: Token) -> NoReturn:
        raise TemplateSyntaxError(f"template: :{token.line or 1}: {message}")


def _number(text: str) -> int | float:
    if len(text) > 100:
        raise ValueError(text)
    if text.lstrip("+-").isdigit() and text.lstrip("+-")[0] == "0" and len(text.lstrip("+-")) > 1:
        return int(text, 8)
    try:
        return int(text, 0)
    except ValueError:
        return float(text)


def _unescaped(match: re.Match[str]) -> str:
    """One escape of a Go string. Raises ValueError."""
    hexadecimal = match[1] or match[2] or match[3]
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if match[4]:
        return chr(int(match[4], 8))
    if match[5] not in _NAMED_ESCAPES:
        raise ValueError(match[0])
    return _NAMED_ESCAPES[match[5]]
