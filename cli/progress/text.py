"""The text of build output, which is bytes of unknown origin: cut into lines, and made harmless to a terminal."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_MAX_PENDING = 32 * 1024  # characters; a "line" longer than this (a binary file, base64) is shown in pieces

_PLAIN = bytes((0x09, 0x0A, *range(0x20, 0x7F)))
_SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement, erasing
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, clipboard, …
    r"|\x1b[ -/]*[0-~]"  # two-character escapes: reset, character sets
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_TURNING = re.compile("[\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_BREAKS = dict.fromkeys(map(ord, "\n\t\u2028\u2029"), " ")
_RESETS = ("\x1b[0m", "\x1b[m")


class Line(NamedTuple):
    """A line of output without its end. overwritten: it ended in a bare carriage return, as progress bars do."""

    text: str
    overwritten: bool = False


class LineSplitter:
    """Bytes in, whole lines out: characters and line ends may be split between two pieces.

    A line may overwrite itself with carriage returns. Only its last state in each piece is kept, as a terminal would
    show it.
    """

    __slots__ = ("_decoder", "_pending")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Line]:
        """Yield the lines that ``data`` completes; with ``final`` also the last one that has no end."""
        *lines, rest = (self._pending + self._decoder.decode(data, final)).split("\n")
        for line in lines:
            yield Line(_visible(line.rstrip("\r")))
        rest, overwritten = _split_overwritten(rest)
        if overwritten:
            yield Line(overwritten, overwritten=True)
        while len(rest) > _MAX_PENDING:
            yield Line(rest[:_MAX_PENDING])
            rest = rest[_MAX_PENDING:]
        if final and rest.rstrip("\r"):
            yield Line(rest.rstrip("\r"))
            rest = ""
        self._pending = rest

    def feed_plain(self, data: bytes) -> str | None:
        """The whole lines that ``data`` completes, with their ends, as one text; "" when it completes none.

        None, and nothing has been fed, when there is anything but printable ASCII, tabs and line ends: ``feed`` has to
        look at each line then. Without that, a million lines take a tenth of the time.
        """
        if data.translate(None, _PLAIN) or self._decoder.getstate()[0]:
            return None
        if self._pending and self._pending.encode("utf-8", "replace").translate(None, _PLAIN):
            return None
        body, end, rest = (self._pending + data.decode("ascii")).rpartition("\n")
        if len(rest) > _MAX_PENDING:
            return None
        self._pending = rest
        return body + end

    @property
    def pending(self) -> str:
        """The line that has begun and not ended."""
        return self._pending.rstrip("\r")


def _visible(line: str) -> str:
    return line.rpartition("\r")[2] if "\r" in line else line


def _split_overwritten(rest: str) -> tuple[str, str]:
    """Split an unfinished line into its current state and the one before; a final ``\\r`` may be half of ``\\r\\n``."""
    if "\r" not in rest[:-1]:
        return rest, ""
    body, end = (rest[:-1], "\r") if rest.endswith("\r") else (rest, "")
    before, _, current = body.rpartition("\r")
    return current + end, _visible(before.rstrip("\r"))


def harmless(text: str, *, colours: bool = True) -> str:
    """Remove control characters and sequences other than tab and newline; colours stay unless ``colours`` is false.

    A colour that is still on at the end of the text is switched off there.
    """
    if not _SUSPECT.search(text):
        return text
    cleaned = _CONTROL.sub(_keep_colour if colours else "", text)
    start = cleaned.rfind("\x1b[")
    if start >= 0 and not cleaned.startswith(_RESETS, start):
        cleaned += _RESETS[0]
    return cleaned


def _keep_colour(match: re.Match[str]) -> str:
    return match[0] if _COLOUR.fullmatch(match[0]) else ""


def cell_text(text: str) -> str:
    """Text that a stranger may have chosen, as a cell of a table has it: one line of characters that are printable.

    Control characters, whole sequences of them, marks that turn the direction of text, and halves of characters are
    left out; line ends and tabs become spaces.
    """
    if text.isprintable():
        return text
    cleaned = harmless(text, colours=False).translate(_BREAKS)
    return "".join(letter for letter in cleaned if letter.isprintable())


def unturned(text: str) -> str:
    """The text without marks that are not seen: those that turn its direction, and halves of characters."""
    return text if text.isascii() else _TURNING.sub("", text)


def one_line(text: str) -> str:
    """The text without control characters and line breaks, for names of steps."""
    return harmless(text.replace("\n", " "), colours=False).expandtabs(1)


def cell_width(text: str) -> int:
    """How many terminal cells ``text`` takes: wide characters take two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """Shorten ``text`` to ``width`` cells, ending in ``…`` where something was cut off."""
    if cell_width(text) <= width:
        return text
    room, kept = width - 1, []
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def files_text(count: int) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} file" if count == 1 else f"{count} files"


def size_text(size_bytes: float) -> str:
    """Bytes as docker prints them: decimal units, about three digits: ``1.23MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g}{unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g}TB"
