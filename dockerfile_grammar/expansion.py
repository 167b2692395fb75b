"""Variables, quotes and escapes in a word, as BuildKit's shell lexer resolves them.

A word is parsed by ``word.lark`` into parts once (results are remembered), and evaluated against an environment as
often as needed.  Behaviour: moby/buildkit, frontend/dockerfile/shell/lex.go.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

from dockerfile_grammar import shellpatterns
from dockerfile_grammar.errors import ExpansionError, shown
from dockerfile_grammar.growth import check_growth
from dockerfile_grammar.lines import GO_SPACE

if TYPE_CHECKING:
    from lark import Lark, Token

Mode: TypeAlias = Literal["word", "body"]

_SPACES = re.compile(f"[{re.escape(GO_SPACE)}]+")
_RUNS = re.compile(f"{_SPACES.pattern}|[^{re.escape(GO_SPACE)}]+")

_PLAIN = {
    ("word", "\\"): re.compile(r"[^\\$'\"<]*"),
    ("word", "`"): re.compile(r"[^`$'\"<]*"),
    ("body", "\\"): re.compile(r"[^\\$]*"),
    ("body", "`"): re.compile(r"[^`$]*"),
}


class Expansion(Struct, frozen=True):
    """The result for one word. used, undefined: names of variables that were looked up and found, or not found."""

    text: str
    used: frozenset[str]
    undefined: frozenset[str]


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """Expand to a single string; white space in values stays as it is. Raises ExpansionError."""
    return expand_with_names(word, env, escape=escape).text


def expand_with_names(word: str, env: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """As ``expand``; the result also has the variables that were looked up."""
    return _expand(word, env, escape, "word")


def expand_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Expand, then split at white space that neither was quoted nor escaped. Raises ExpansionError."""
    evaluation = _Evaluation(env, escape)
    splitter = _Splitter()
    evaluation.parts(_parse(word, escape, "word"), evaluation.raw_escapes, splitter)
    return [text for text, _ in splitter.finish()]


def expand_body(content: str, env: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """Expand a here-document's content: quotes are ordinary characters. Raises ExpansionError."""
    return _expand(content, env, escape, "body")


def split_raw(text: str) -> list[tuple[str, int]]:
    """Split a line into words as a shell would, resolving nothing; with the offset of each. [] for bad quoting.

    The escape character is ``\\`` whatever the file says. For finding here-documents.
    """
    evaluation = _Evaluation({}, "\\", raw_quotes=True, raw_escapes=True, keep_unset=True)
    splitter = _Splitter()
    try:
        evaluation.parts(_parse(text, "\\", "word"), evaluation.raw_escapes, splitter)
    except ExpansionError:
        return []
    return splitter.finish()


class HeredocOpener(Struct, frozen=True):
    """``[fd]<<[-]NAME``. expand: no part of the name was quoted."""

    name: str
    expand: bool
    chomp: bool
    file_descriptor: int


def heredoc_opener(word: str) -> HeredocOpener | None:
    """Read a word, as ``split_raw`` gives it, that may open a here-document; None when it does not."""
    if "<<" not in word:
        return None
    try:
        descriptor, opening, parts = _parse_opener(word)
    except ExpansionError:
        return None
    names, raw_names = (_opener_words(parts, raw_quotes=raw) for raw in (False, True))
    if len(names) != 1 or "<" in word.partition("<<")[2]:
        return None
    # A quote that quotes is gone from the name; an escaped one is not.
    expand = _count_quotes(names[0]) == _count_quotes("".join(raw_names))
    return HeredocOpener(names[0], expand, opening[2:3] == "-", min(int(descriptor or "0"), 2**64 - 1))


def _opener_words(parts: tuple[_Part, ...], *, raw_quotes: bool) -> list[str]:
    evaluation = _Evaluation({}, "\\", raw_quotes=raw_quotes, keep_unset=True)
    splitter = _Splitter()
    evaluation.parts(parts, evaluation.raw_escapes, splitter)
    return [word for word, _ in splitter.finish()]


def _count_quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def _expand(word: str, env: Mapping[str, str], escape: str, mode: Mode) -> Expansion:
    if _PLAIN[mode, escape].fullmatch(word):
        return Expansion(word, frozenset(), frozenset())
    evaluation = _Evaluation(env, escape)
    text = evaluation.parts(_parse(word, escape, mode), evaluation.raw_escapes)
    return Expansion(text, frozenset(evaluation.used), frozenset(evaluation.undefined))


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a word. Each has ``position``, its offset in the word, and evaluates itself.


class _Text(Struct, frozen=True):
    """Characters that stand for themselves. raw: they never part words (quoted, or ``<<``)."""

    position: int
    text: str
    raw: bool = False

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del evaluation, raw_escapes
        return self.text


class _Escaped(Struct, frozen=True):
    """The escape character and what follows it; the latter is empty at the end of the word."""

    position: int
    escape: str
    text: str

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del evaluation
        return self.escape + self.text if raw_escapes else self.text


class _LoneEscape(Struct, frozen=True):
    """In double quotes: an escape character before something that needs none. Kept, and doubled when all are."""

    position: int
    escape: str

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del evaluation
        return self.escape * 2 if raw_escapes else self.escape


class _Quoted(Struct, frozen=True):
    position: int
    quote: str
    parts: tuple[_Part, ...]

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        text = evaluation.parts(self.parts, raw_escapes)
        return f"{self.quote}{text}{self.quote}" if evaluation.raw_quotes else text


class _Variable(Struct, frozen=True):
    position: int
    name: str
    written: str

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del raw_escapes
        value = evaluation.look_up(self.name)
        if value is None:
            return self.written if evaluation.keep_unset else ""
        return value


class _Modified(Struct, frozen=True):
    """``${name-word}`` and its kin. The word is always evaluated, even where it is not used."""

    position: int
    name: str
    modifier: str
    parts: tuple[_Part, ...]

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del raw_escapes
        operator = self.modifier[-1]
        word = evaluation.parts(self.parts, operator in "#%")
        value = evaluation.look_up(self.name)
        if value is None and evaluation.keep_unset:
            return f"${{{self.name}{self.modifier}{word}}}"
        missing = value is None or (not value and self.modifier[0] == ":")
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if operator == "?":
            if missing:
                what = "unset" if value is None else "empty"
                raise ExpansionError(
                    f"{self.name}: {shown(word) or f'is not allowed to be {what}'}",
                    hint=f"set it with ARG, ENV or --build-arg {self.name}=…",
                )
            return value or ""
        return shellpatterns.trim(value or "", word, operator)


class _Replaced(Struct, frozen=True):
    """``${name/pattern/replacement}``, or all occurrences with ``//``."""

    position: int
    name: str
    every: bool
    pattern: tuple[_Part, ...]
    replacement: tuple[_Part, ...]

    def evaluate(self, evaluation: _Evaluation, raw_escapes: bool) -> str:
        del raw_escapes
        pattern = evaluation.parts(self.pattern, True)
        replacement = evaluation.parts(self.replacement, True)
        value = evaluation.look_up(self.name)
        if value is None and evaluation.keep_unset:
            return f"${{{self.name}/{pattern}/{replacement}}}"
        if self.every:
            return shellpatterns.replace_all(value or "", pattern, replacement)
        return shellpatterns.replace_first(value or "", pattern, replacement)


_Part: TypeAlias = _Text | _Escaped | _LoneEscape | _Quoted | _Variable | _Modified | _Replaced


class _Splitter:
    """Gathers words. White space parts them where it comes from plain text or a variable."""

    def __init__(self) -> None:
        self._words: list[tuple[str, int]] = []
        self._word: list[str] = []
        self._start = 0

    def add(self, text: str, position: int, *, raw: bool, advances: bool) -> None:
        """advances: whether ``text`` is the source's own, so that its characters have offsets of their own."""
        if raw:
            self._append(text, position)
        elif not advances:
            first, *others = _SPACES.split(text)
            self._append(first, position)
            if others:
                self._end_word()
                self._words += [(word, position) for word in others[:-1]]
                self._append(others[-1], position)
        else:
            for run in _RUNS.finditer(text):
                if run[0][0] in GO_SPACE:
                    self._end_word()
                else:
                    self._append(run[0], position + run.start())

    def _append(self, text: str, position: int) -> None:
        """Go on with the word, or begin one at ``position``."""
        if text and not self._word:
            self._start = position
        if text:
            self._word.append(text)

    def _end_word(self) -> None:
        if self._word:
            self._words.append(("".join(self._word), self._start))
            self._word.clear()

    def finish(self) -> list[tuple[str, int]]:
        self._end_word()
        return self._words


class _Evaluation:
    """One evaluation of a word.

    raw_quotes, raw_escapes: keep the characters that quote and escape.
    keep_unset: leave undefined variables as written.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        escape: str,
        *,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self._env = env
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.keep_unset = keep_unset
        self.used: set[str] = set()
        self.undefined: set[str] = set()

    def look_up(self, name: str) -> str | None:
        value = self._env.get(name)
        (self.undefined if value is None else self.used).add(name)
        return value

    def parts(self, parts: tuple[_Part, ...], raw_escapes: bool, splitter: _Splitter | None = None) -> str:
        texts = []
        grown = 0
        for part in parts:
            text = part.evaluate(self, raw_escapes)
            texts.append(text)
            plain = isinstance(part, _Text)
            if not plain and self._env:
                grown += len(text)
                check_growth(grown)
            if splitter is not None:
                is_variable = isinstance(part, _Variable | _Modified | _Replaced)
                raw = part.raw if isinstance(part, _Text) else not is_variable
                splitter.add(text, part.position, raw=raw, advances=plain)
        return "".join(texts)


# ---------------------------------------------------------------------------------------------------------------------
# From grammar to parts


class _Builder:
    """Methods for the rules of word.lark."""

    def __init__(self, escape: str) -> None:
        self._escape = escape

    def text(self, tokens: list[Token]) -> _Text:
        return _Text(_start(tokens[0]), str(tokens[0]))

    quoted_text = text

    def angle(self, tokens: list[Token]) -> _Text:
        return _Text(_start(tokens[0]), str(tokens[0]), raw=True)

    def escaped(self, tokens: list[Token]) -> _Escaped:
        return _Escaped(_start(tokens[0]), self._escape, tokens[0][1:])

    quoted_escape = escaped
    dangling = escaped

    def lone_escape(self, tokens: list[Token]) -> _LoneEscape:
        return _LoneEscape(_start(tokens[0]), self._escape)

    def single_quoted(self, tokens: list[Token]) -> _Quoted:
        position = _start(tokens[0])
        return _Quoted(position, "'", (_Text(position + 1, tokens[0][1:-1]),))

    def double_quoted(self, children: list[Token | _Part]) -> _Quoted:
        return _Quoted(_start(children[0]), '"', tuple(child for child in children[1:-1] if not isinstance(child, str)))

    def simple_variable(self, tokens: list[Token]) -> _Variable:
        return _Variable(_start(tokens[0]), tokens[0][1:], str(tokens[0]))

    def variable(self, tokens: list[Token]) -> _Variable:
        return _Variable(_start(tokens[0]) - 2, str(tokens[0]), f"${{{tokens[0]}}}")

    def modified_variable(self, children: tuple[Token, Token, tuple[_Part, ...]]) -> _Modified:
        name, modifier, parts = children
        return _Modified(_start(name) - 2, str(name), str(modifier), parts)

    def replaced_variable(self, children: tuple[Token, Token, tuple[_Part, ...], tuple[_Part, ...]]) -> _Replaced:
        name, slash, pattern, replacement = children
        return _Replaced(_start(name) - 2, str(name), slash == "//", pattern, replacement)

    def word(self, parts: list[_Part]) -> tuple[_Part, ...]:
        return tuple(parts)

    def heredoc(self, children: list[Token | _Part]) -> tuple[str, str, tuple[_Part, ...]]:
        tokens = [str(child) for child in children if isinstance(child, str)]
        parts = tuple(child for child in children if not isinstance(child, str))
        return (tokens[0] if len(tokens) == 2 else "", tokens[-1], parts)

    body = word
    value = word
    pattern = word
    plain_value = word
    plain_pattern = word


def _start(child: object) -> int:
    position: int | None = getattr(child, "start_pos", None)
    return 0 if position is None else position


@functools.cache
def _parser(escape: str) -> Lark:
    from dockerfile_grammar import tables

    return tables.parser("word", escape=escape, transformer=_Builder(escape))


@functools.lru_cache(maxsize=4096)
def _parse(word: str, escape: str, mode: Mode) -> tuple[_Part, ...]:
    parts: tuple[_Part, ...] = _run_parser(word, escape, mode)
    return parts


def _parse_opener(word: str) -> tuple[str, str, tuple[_Part, ...]]:
    opener: tuple[str, str, tuple[_Part, ...]] = _run_parser(word, "\\", "heredoc")
    return opener


def _run_parser(word: str, escape: str, start: str) -> Any:
    """What _Builder makes of the word, by the start rule. Raises ExpansionError."""
    from lark.exceptions import UnexpectedInput

    from dockerfile_grammar import tables

    try:
        return _parser(escape).parse(word, start=start)
    except UnexpectedInput as error:
        expected = getattr(error, "expected", None) or getattr(error, "allowed", None) or ()
        raise _syntax_error(word, tables.error_position(error, word), expected) from None


_VARIABLE_HINT = "a variable is $name, ${name} or ${name:-default}; to write a $, put a backslash before it"
_MODIFIER_HINT = (
    "supported: ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?w} ${v?w} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}"
)


def _syntax_error(word: str, position: int, expected: Collection[str]) -> ExpansionError:
    """Say what stopped the parser at ``position``, where it expected one of these terminals."""
    text = shown(word)
    if position < len(word) and word[position] in "'\"" and "SINGLE_QUOTED" in expected:
        name = "double" if word[position] == '"' else "single"
        return ExpansionError(f"unterminated {name} quote in {text!r}", hint=f"add a closing {word[position]}")
    if position < len(word):
        if "NAME" in expected:
            return ExpansionError(f"bad substitution in {text!r}", hint=_VARIABLE_HINT)
        modifier = word[position : position + (2 if word[position] == ":" else 1)]
        return ExpansionError(f"unsupported modifier {modifier!r} in {text!r}", hint=_MODIFIER_HINT)
    if "QUOTED_TEXT" in expected:
        return ExpansionError(f"unterminated double quote in {text!r}", hint='add a closing "')
    missing = "/" if "_SLASH" in expected else "}"
    return ExpansionError(f"missing {missing!r} in {text!r}", hint=_VARIABLE_HINT)
