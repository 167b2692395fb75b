"""JUnit XML as test programs write it: read as a stream, within bounds, without entities.

There is no standard. What pytest, Surefire, Gradle, Go's, Rust's and JavaScript's reporters write has ``testcase`` in
``testsuite`` in common, with ``failure``, ``error`` or ``skipped`` inside. Surefire tells of tests that were tried
again: ``flakyFailure`` and ``flakyError`` in those that passed, ``rerunFailure`` and ``rerunError`` in those that
failed again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple
from xml.parsers import expat

from ci.reports.model import Case, CaseOutcome
from core.cancellation import check

MOST_CASES: Final = 100_000
"""Of one job."""

MOST_NAME: Final = 500
MOST_MESSAGE: Final = 2_000
MOST_OUTPUT: Final = 16_000
"""Characters."""

_HALF: Final = MOST_OUTPUT // 2
_GAP: Final = "\n[…]\n"
_DEEPEST: Final = 64
_VERDICTS: Final[dict[str, CaseOutcome]] = {"failure": "failed", "error": "error", "skipped": "skipped"}
_TRIED_AGAIN: Final = ("flakyFailure", "flakyError")
_PRINTED: Final = ("system-out", "system-err")
_LINE: Final = re.compile(r"(\.[A-Za-z]\w{0,5}):\d{1,9}(?::\d{1,9})?(?=$|[\s)\]])")
_INVISIBLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")


class JUnitError(Exception):
    """A file is no report that can be read. Its text says why, and in which line."""


class TooManyCases(Exception):
    """There are more tests than are kept."""


class Masking(NamedTuple):
    """How secrets are kept out of what is read.

    mask: replaces them in a text.
    longest: how many characters a form of one may have: so many are read beyond a cut, and left out.
    """

    mask: Callable[[str], str] = str
    longest: int = 0


_OPEN: Final = Masking()


def read_junit(chunks: Iterable[bytes], room: int = MOST_CASES, masking: Masking = _OPEN) -> Iterator[Case]:
    """The tests of a file, in its order.

    chunks: its content, in pieces of any length.
    room: how many tests there may be.
    Raises JUnitError, TooManyCases after ``room`` tests, and what ``check`` raises.
    """
    reader = _Reader(masking)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_dtd
    given = 0
    for chunk, is_last in _with_end(chunks):
        check()
        try:
            parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise JUnitError(f"line {error.lineno}: {expat.errors.messages[error.code]}") from error
        except (LookupError, ValueError) as error:  # an encoding that Python does not know, or one of several bytes
            raise JUnitError(f"line {parser.CurrentLineNumber}: {error}") from error
        for case in reader.taken():
            if given == room:
                raise TooManyCases
            given += 1
            yield case
    if not reader.is_report:
        raise JUnitError("it has no <testsuite>: is it a report in the form of JUnit?")


def _with_end(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for chunk in chunks:
        yield chunk, False
    yield b"", True


def _refuse_dtd(*_: object) -> None:
    raise JUnitError("it has a document type, which may define entities, and is not read")


class _Test:
    """A test that is being read."""

    __slots__ = ("is_flaky", "message", "name", "outcome", "output", "printed", "seconds", "suite")

    def __init__(self, suite: str, name: str, seconds: float, masking: Masking) -> None:
        self.suite = suite
        self.name = name
        self.seconds = seconds
        self.outcome: CaseOutcome = "passed"
        self.message = ""
        self.output = _Text(masking)
        self.printed = _Text(masking)
        self.is_flaky = False

    def case(self) -> Case:
        output = ""
        if self.outcome in ("failed", "error"):
            output = "\n".join(filter(None, (self.output.whole(), self.printed.whole())))
        message = self.message or (_first_line(output) if output else "")
        return Case(self.suite, self.name, self.outcome, self.seconds, message, output, self.is_flaky)


class _Text:
    """Text that is being read, as far as it is kept: its beginning and its end, each MOST_OUTPUT / 2 characters."""

    __slots__ = ("_end", "_masking", "_room", "_start", "_was_cut")

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._start: list[str] = []
        self._room = _HALF + masking.longest
        self._end = ""
        self._was_cut = False

    def add(self, text: str) -> None:
        head, rest = text[: self._room], text[self._room :]
        if head:
            self._start.append(head)
            self._room -= len(head)
        if rest:
            end = self._end + rest
            most = _HALF + self._masking.longest
            self._was_cut |= len(end) > most
            self._end = end[-most:]

    def whole(self) -> str:
        mask, longest = self._masking
        start = "".join(self._start)
        if not self._was_cut:
            return _clean(_cut(mask(start + self._end))).strip("\n")
        # What stands at a cut may be a part of a secret, which nobody recognises: that much is left out.
        return _clean(f"{mask(start)[:_HALF]}{_GAP}{mask(self._end)[longest:][-_HALF:]}").strip("\n")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_OUTPUT else f"{text[:_HALF]}{_GAP}{text[-_HALF:]}"


class _Reader:
    """Takes what the parser finds."""

    def __init__(self, masking: Masking) -> None:
        self.is_report = False
        self._masking = masking
        self._depth = 0
        self._suites: list[str] = []
        self._test: _Test | None = None
        self._into: list[_Text | None] = []
        self._done: list[Case] = []

    def taken(self) -> list[Case]:
        """The tests that have ended since it was asked before."""
        done, self._done = self._done, []
        return done

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise JUnitError(f"its elements are nested deeper than {_DEEPEST}")
        tag = tag.rpartition(":")[2]
        into: _Text | None = None
        if tag in ("testsuite", "testsuites"):
            self.is_report = True
            self._suites.append(attributes.get("name", ""))
        elif tag == "testcase" and self._test is None and self._suites:
            self._test = self._begun(attributes)
        elif self._test is not None:
            into = self._in_test(self._test, tag, attributes)
        self._into.append(into)

    def _begun(self, attributes: dict[str, str]) -> _Test:
        outer = next(filter(None, reversed(self._suites)), "")
        suite = attributes.get("classname") or attributes.get("file") or outer
        seconds = _seconds(attributes.get("time", ""))
        test = _Test(self._known_as(suite), self._known_as(attributes.get("name", "")), seconds, self._masking)
        if attributes.get("status") in ("disabled", "notrun", "skipped", "ignored"):
            test.outcome = "skipped"
        return test

    def _in_test(self, test: _Test, tag: str, attributes: dict[str, str]) -> _Text | None:
        """What is inside a test; returns where its text belongs."""
        if tag in _VERDICTS:
            if test.outcome in ("passed", "skipped") or not test.message:
                test.outcome = _VERDICTS[tag]
                test.message = self._message(attributes)
            return test.output
        if tag in _TRIED_AGAIN:
            test.is_flaky = True
            test.message = test.message or self._message(attributes)
        return test.printed if tag in _PRINTED and self._into[-1] is None else None

    def text(self, data: str) -> None:
        if self._into and self._into[-1] is not None:
            self._into[-1].add(data)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._into.pop()
        tag = tag.rpartition(":")[2]
        if tag in ("testsuite", "testsuites"):
            self._suites.pop()
        elif tag == "testcase" and self._test is not None:
            self._done.append(self._test.case())
            self._test = None

    def _known_as(self, name: str) -> str:
        """A name by which a test is found again: on one line, and without the line of a file, which moves."""
        return _LINE.sub(r"\1", " ".join(_clean(self._masking.mask(name)).split()))[:MOST_NAME]

    def _message(self, attributes: dict[str, str]) -> str:
        text = attributes.get("message", "") or attributes.get("type", "")
        return _clean(self._masking.mask(text))[:MOST_MESSAGE].strip()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:MOST_MESSAGE]


def _clean(text: str) -> str:
    return _INVISIBLE.sub("", text)


def _seconds(text: str) -> float:
    """``1,234.5`` is what some write; what is no number, or none that a test can take, is 0."""
    try:
        found = float(text.replace(",", ""))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and 0 <= found < 10**7 else 0.0
