"""Text as Go prints it. Docker's history is made of Go's ``%q`` and ``%v``, and tools compare it."""

from __future__ import annotations

from collections.abc import Iterable

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quote(text: str, mark: str = '"') -> str:
    """``text`` between marks, as strconv.Quote."""
    return mark + "".join(_escaped(char, mark) for char in text) + mark


def quote_list(texts: Iterable[str]) -> str:
    """``["a" "b"]``: ``%q`` of a slice of strings."""
    return "[" + " ".join(quote(text) for text in texts) + "]"


def quote_rune(number: int) -> str:
    r"""``'\x03'``: ``%q`` of an integer."""
    return quote(chr(number), "'") if 0 <= number < 0x110000 else "'�'"


def duration(nanoseconds: int) -> str:
    """``1m30s``, ``1.5s``, ``0s``: time.Duration.String."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if rest < size * 1000:
            return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, rest = divmod(rest, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    digits = str(fraction).rjust(len(str(size)) - 1, "0").rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _escaped(char: str, mark: str) -> str:
    if char == mark:
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
