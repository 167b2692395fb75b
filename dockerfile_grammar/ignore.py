"""``.dockerignore``, and other lists of patterns that leave files out (COPY --exclude).

The result for a path is that of moby's walker: patterns are tried in order, the last one that matches the path or one
of its parents wins, ``!`` includes again. A path's parents are tried as the walker met them. So a ``!`` pattern counts
for what is below a directory only if a pattern before it left the directory out.
Source: moby/patternmatcher (MatchesUsingParentResults), ignorefile.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Self, TypeAlias

from msgspec import Struct

from core.cancellation import check
from dockerfile_grammar import globs
from dockerfile_grammar.errors import PatternError
from dockerfile_grammar.lines import GO_SPACE
from dockerfile_grammar.source import Position, Source, Span

_Matcher: TypeAlias = Callable[[str], object]

# More wildcards than this, and a backtracking matcher could take too long: then the states are followed in parallel.
_MAX_BACKTRACKING_WILDCARDS = 3
# So many of these may go across slashes: each one more multiplies the time by the number of directories in a path.
_MAX_BACKTRACKING_UNBOUNDED = 2
# Patterns in one regular expression. While one is matched, nothing else of the process goes on.
_ALTERNATIVES = 50
# Directories whose results are remembered: a stranger chose how many there are, and how long their paths.
_REMEMBERED = 8192
# States of a pattern that is followed in parallel, of which it is remembered where they lead.
_REMEMBERED_STATES = 65_536
_SPECIAL = re.compile(r"[*?\[\]\\]")


class _Pattern(Struct, frozen=True):
    text: str
    includes: bool


class IgnorePatterns:
    """A list of patterns, compiled. Not thread-safe: it remembers results for directories."""

    def __init__(self, patterns: tuple[_Pattern, ...]) -> None:
        self._patterns = patterns
        self._groups = _groups(patterns)
        self._exceptions = tuple(pattern.text.split("/") for pattern in patterns if pattern.includes)
        self._others = tuple(pattern.text.split("/") for pattern in patterns if not pattern.includes)
        # directory -> (ignored?, which groups matched it or a parent, as bits)
        self._directories: dict[str, tuple[bool, int]] = {"": (False, 0)}

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns, cleaned, in their order."""
        return tuple(f"!{pattern.text}" if pattern.includes else pattern.text for pattern in self._patterns)

    @classmethod
    def parse(cls, text: str | bytes, filename: str = ".dockerignore") -> Self:
        """Read an ignore file: ``#`` starts a comment line, white space around is dropped. Raises PatternError."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        lines = text.removeprefix("\ufeff").split("\n")
        source = Source(filename, tuple(line.rstrip("\r") for line in lines))
        patterns = []
        for number, line in enumerate(source.lines, 1):
            stripped = line.strip(GO_SPACE)
            if not stripped or line.startswith("#"):
                continue
            column = len(line) - len(line.lstrip(GO_SPACE)) + 1
            span = Span(Position(number, column), Position(number, column + len(stripped)))
            try:
                patterns.append(_read_pattern(stripped, rooted=True))
            except PatternError as error:
                raise error.at(source, span) from None
        return cls(tuple(patterns))

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Self:
        """From single patterns, as COPY --exclude has them. Raises PatternError."""
        stripped = (pattern.strip(GO_SPACE) for pattern in patterns)
        return cls(tuple(_read_pattern(pattern, rooted=False) for pattern in stripped if pattern))

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._patterns)

    @property
    def has_exceptions(self) -> bool:
        """Whether there is a pattern that includes again."""
        return bool(self._exceptions)

    def __repr__(self) -> str:
        return f"IgnorePatterns({[('!' if pattern.includes else '') + pattern.text for pattern in self._patterns]})"

    def matches(self, path: str) -> bool:
        """Whether the path is left out. path: relative, with slashes, clean (``a/b``; no ``./``, ``..`` or ``//``)."""
        parent, _, _ = path.rpartition("/")
        return self._step(path, self._directory(parent)[1])[0]

    def can_skip(self, directory: str) -> bool:
        """Whether the directory and all that it can ever hold are left out, so that a walker need not enter it."""
        ignored, _ = self._directory(directory)
        return ignored and not any(_may_match_below(exception, directory) for exception in self._exceptions)

    def reaches_below(self, directory: str) -> bool:
        """Whether a pattern could leave out something below a directory that is not left out. Errs towards yes."""
        return any(_may_match_below(pattern, directory) for pattern in self._others)

    def _directory(self, path: str) -> tuple[bool, int]:
        result = self._directories.get(path)
        if result is None:
            if len(self._directories) > _REMEMBERED:
                self._directories = {"": (False, 0)}
            missing = [path]
            while (parent := missing[-1].rpartition("/")[0]) not in self._directories:
                missing.append(parent)
            _, groups = self._directories[parent]
            for directory in reversed(missing):
                result = self._step(directory, groups)
                self._directories[directory] = result
                groups = result[1]
            assert result is not None
        return result

    def _step(self, path: str, parent_groups: int) -> tuple[bool, int]:
        """Result for a path, given which groups matched its parent."""
        ignored, matched, bit = False, 0, 1
        for includes, matcher in self._groups:
            # A group that could not change the result is not tried, and does not count for what is below.
            if parent_groups & bit or (includes == ignored and matcher(path)):
                matched |= bit
                ignored = not includes
            bit <<= 1
        return ignored, matched


def _read_pattern(text: str, *, rooted: bool) -> _Pattern:
    includes = text.startswith("!")
    if includes:
        text = text[1:].strip(GO_SPACE) if rooted else text[1:]
        if not text:
            raise PatternError(
                "illegal exclusion pattern: '!'", hint="write the pattern to include again after the '!'"
            )
    text = clean_path(text)
    if rooted and len(text) > 1:
        text = text.removeprefix("/")
    globs.check(text)
    return _Pattern(text, includes)


def clean_path(path: str) -> str:
    """Go's filepath.Clean: a path without ``.``, ``..`` where it can be resolved, and doubled slashes."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _groups(patterns: tuple[_Pattern, ...]) -> tuple[tuple[bool, _Matcher], ...]:
    """Runs of patterns of one kind, each as one matcher."""
    runs: list[tuple[bool, list[str]]] = []
    for pattern in patterns:
        if not runs or runs[-1][0] != pattern.includes:
            runs.append((pattern.includes, []))
        runs[-1][1].append(pattern.text)
    return tuple((includes, _matcher(texts)) for includes, texts in runs)


def _matcher(texts: list[str]) -> _Matcher:
    """One function for several patterns."""
    exact: set[str] = set()
    regexps: list[str] = []
    careful: list[_Matcher] = []
    for text in texts:
        tokens = _tokens(text)
        if not _SPECIAL.search(text):
            exact.add(text)
        elif _is_quick(tokens):
            regexps.append("".join(token if isinstance(token, str) else token.regexp for token in tokens))
        else:
            careful.append(_Parallel(tokens).matches)
    matchers: list[_Matcher] = []
    if exact:
        matchers.append(exact.__contains__)
    for at in range(0, len(regexps), _ALTERNATIVES):
        alternatives = "|".join(f"(?:{regexp})" for regexp in regexps[at : at + _ALTERNATIVES])
        matchers.append(re.compile(alternatives).fullmatch)
    matchers += careful
    if len(matchers) == 1:
        return matchers[0]

    def any_matches(path: str) -> bool:
        for matcher in matchers:
            check()
            if matcher(path):
                return True
        return False

    return any_matches


def _is_quick(tokens: list[str | _Wildcard]) -> bool:
    wildcards = [token for token in tokens if not isinstance(token, str)]
    unbounded = sum(token is not _STAR for token in wildcards)
    return len(wildcards) <= _MAX_BACKTRACKING_WILDCARDS and unbounded <= _MAX_BACKTRACKING_UNBOUNDED


class _Wildcard(Struct, frozen=True):
    """What matches any number of characters."""

    regexp: str


_STAR = _Wildcard("[^/]*")
_REST = _Wildcard(".*")
_DIRECTORIES = _Wildcard("(?:.*/)?")


def _tokens(pattern: str) -> list[str | _Wildcard]:
    """A pattern as wildcards and regular expressions of one character each.  moby/patternmatcher: Pattern.compile.

    ``**/`` is any number of directories, also none; ``**`` elsewhere too, but at the end, where it is anything.
    """
    tokens: list[str | _Wildcard] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if pattern.startswith("**", position):
            at_start = position == 0
            position += 3 if pattern.startswith("/", position + 2) else 2
            if position == len(pattern):
                tokens.append(_REST)
            elif at_start and pattern[position - 1] != "/" and not _SPECIAL.search(pattern, position):
                tokens.append(_REST)  # "**name" is any path that ends in name
            else:
                tokens.append(_DIRECTORIES)
            continue
        if character == "*":
            tokens.append(_STAR)
        elif character == "?":
            tokens.append("[^/]")
        elif character == "[":
            regexp, position = globs.character_class(pattern, position + 1)
            tokens.append(regexp)
            continue
        elif character == "\\":
            position += 1
            tokens.append(re.escape(pattern[position : position + 1]))
        else:
            tokens.append(re.escape(character))
        position += 1
    return tokens


class _Parallel:
    """Follows all ways through a pattern at once, so that time is linear in the path whatever the pattern.

    Where a character leads from a set of states is remembered: the paths of a tree have much in common.
    """

    def __init__(self, tokens: list[str | _Wildcard]) -> None:
        self._single = [re.compile(token) if isinstance(token, str) else None for token in tokens]
        self._tokens = tokens
        self._first = frozenset(self._closure({(0, False)}))
        self._steps: dict[tuple[frozenset[tuple[int, bool]], str], frozenset[tuple[int, bool]]] = {}
        self._kept = 0  # states in _steps

    def matches(self, path: str) -> bool:
        states = self._first
        for character in path:
            following = self._steps.get((states, character))
            states = self._step(states, character) if following is None else following
            if not states:
                return False
        return (len(self._tokens), False) in states

    def _step(self, states: frozenset[tuple[int, bool]], character: str) -> frozenset[tuple[int, bool]]:
        following = set()
        for index, _ in states:
            if index == len(self._tokens):
                continue
            token, single = self._tokens[index], self._single[index]
            if single is not None:
                if single.fullmatch(character):
                    following.add((index + 1, False))
            elif token is _STAR:
                if character != "/":
                    following.add((index, False))
            elif character != "\n":
                following.add((index, token is _DIRECTORIES))
                if token is _DIRECTORIES and character == "/":
                    following.add((index + 1, False))
        found = frozenset(self._closure(following))
        self._kept += 1 + len(states) + len(found)
        if self._kept > _REMEMBERED_STATES:
            self._steps.clear()
            self._kept = 0
        self._steps[states, character] = found
        return found

    def _closure(self, states: set[tuple[int, bool]]) -> set[tuple[int, bool]]:
        """Add what can be reached by letting wildcards match nothing. True marks the inside of some directories."""
        todo = list(states)
        while todo:
            index, inside = todo.pop()
            if index < len(self._tokens) and self._single[index] is None and not inside:
                following = (index + 1, False)
                if following not in states:
                    states.add(following)
                    todo.append(following)
        return states


def _may_match_below(exception: list[str], directory: str) -> bool:
    """Whether a pattern, given as its segments, could match something below the directory. Errs on the side of yes."""
    segments = directory.split("/")
    for segment, name in zip(exception, segments, strict=False):
        if "**" in segment or "[" in segment or "\\" in segment:
            return True
        if not globs.match(segment, name):
            return False
    return len(exception) > len(segments)
