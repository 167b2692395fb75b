"""Masking: secrets in a log are replaced before it is stored or sent, as they are and in the forms that tools print.

Forms: the whole value and each of its lines; base64 (both alphabets) at each of the three alignments, and as
``base64`` wraps it at 76 columns; URL-encoded with escapes in both cases, with and without the slash; JSON-escaped as
Python and as Go do it, and JSON within JSON; quoted for shells, as Python's and bash's quote, with backslashes, and as
``printf %q`` does it; escaped for HTML; hexadecimal in both cases.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
MIN_LENGTH: Final = 4
"""Shorter values cannot be masked without making logs unreadable, so they are refused as secrets."""

_LONG_WORD: Final = 8  # bytes
_WORD: Final = 4
_LONG_FORM: Final = 2 * _LONG_WORD - 1  # bytes of the shortest form that covers a long word at a multiple of 8
_WORD_FORM: Final = 2 * _WORD - 1  # and a word at a multiple of 4
_BASE64_LINE_BYTES: Final = 57  # 76 columns


_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_USER_INFORMATION: Final = re.compile(r"(?<=://)[^/\s]*@")
_GO: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_BASH_ANYWHERE: Final = re.compile(r"[!\"$&'()*,;<>?\[\\\]^`{|} ]")
_BASH_SPECIAL: Final = re.compile(_BASH_ANYWHERE.pattern + "|^[#~]")
_IN_DOUBLE_QUOTES: Final = re.compile(r'[$`"\\]')


def mask_user_information(text: str) -> str:
    """The text with ``***`` for what stands before the last @ of each address in it: names, passwords, tokens."""
    return _USER_INFORMATION.sub(f"{MASK}@", text)


class FormFinder:
    """Finds any of many byte strings, each of MIN_LENGTH or more. The time grows with the data, not with their number.

    Twenty secrets have a thousand forms, which no regular expression looks for quickly. But wherever a form of 15 bytes
    stands, one of its first 8 words of 8 bytes stands at a multiple of 8. So it is enough to look whether one of these
    is a word of the data. For shorter forms these are the first 4 words of 4 bytes, at multiples of 4. A log has such
    short words by chance more often, above all digits. For forms of less than 7 bytes a regular expression has to do.
    """

    def __init__(self, forms: Iterable[bytes]) -> None:
        ordered = sorted(set(forms), key=len, reverse=True)
        self.longest = len(ordered[0]) if ordered else 0
        self._long = _Words([form for form in ordered if len(form) >= _LONG_FORM], _LONG_WORD)
        self._words = _Words([form for form in ordered if _WORD_FORM <= len(form) < _LONG_FORM], _WORD)
        short = [form for form in ordered if len(form) < _WORD_FORM]
        self._pattern = re.compile(b"(?=(" + b"|".join(map(re.escape, short)) + b"))") if short else None
        self._beginnings = {form[:length] for form in ordered for length in range(1, MIN_LENGTH)}
        self._by_beginning: dict[bytes, list[bytes]] = {}
        for form in ordered:
            self._by_beginning.setdefault(form[:MIN_LENGTH], []).append(form)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where forms are, without overlaps: at each place the longest; the search goes on behind it."""
        found = self._long.spans(data) + self._words.spans(data)
        if self._pattern is not None:
            found += [match.span(1) for match in self._pattern.finditer(data)]  # ahead, so that they may overlap
        chosen: list[tuple[int, int]] = []
        for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
            if not chosen or start >= chosen[-1][1]:
                chosen.append((start, end))
        return chosen

    def replace(self, data: bytes, mask: bytes) -> bytes:
        """``data`` with ``mask`` in place of each form; the same object where there is none."""
        spans = self.spans(data)
        if not spans:
            return data
        parts: list[bytes] = []
        at = 0
        for start, end in spans:
            parts += (data[at:start], mask)
            at = end
        return b"".join((*parts, data[at:]))

    def begins_form(self, end: bytes) -> bool:
        """Whether more bytes could make a form of ``end``."""
        if len(end) < MIN_LENGTH:
            return end in self._beginnings
        forms = self._by_beginning.get(end[:MIN_LENGTH], ())
        return any(len(form) > len(end) and form.startswith(end) for form in forms)


class _Words:
    """Forms by their first words. Wherever a form stands, one of these is at a multiple of a word's size.

    size: of a word in bytes; forms have at least 2 * size - 1 of them.
    """

    def __init__(self, forms: Sequence[bytes], size: int) -> None:
        self._size = size
        self._forms: dict[int, list[tuple[int, bytes]]] = {}
        for form in forms:
            for offset in range(size):
                word = int.from_bytes(form[offset : offset + size], sys.byteorder)
                self._forms.setdefault(word, []).append((offset, form))
        self._known = frozenset(self._forms)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Every occurrence of every form."""
        if not self._forms:
            return []
        words = memoryview(data)[: len(data) - len(data) % self._size].cast("Q" if self._size == _LONG_WORD else "I")
        there = self._known.intersection(words)  # most data has none, and this is the quickest to tell
        if not there:
            return []
        found = set()
        for number, word in enumerate(words):
            if word in there:
                at = number * self._size
                for offset, form in self._forms[word]:
                    if at >= offset and data.startswith(form, at - offset):
                        found.add((at - offset, at - offset + len(form)))
        return sorted(found)


class Masker:
    """Masks text. ``longest`` is how many characters a form of a secret may have, for those who cut text up."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms = forms_of(secrets)
        self.longest = len(forms[0]) if forms else 0
        self._finder = FormFinder(map(_encode, forms)) if forms else None

    def mask(self, text: str) -> str:
        """``text`` with every form of every secret replaced."""
        if self._finder is None:
            return text
        data = _encode(text)
        masked = self._finder.replace(data, MASK.encode())
        return text if masked is data else _decode(masked)

    def safe(self, text: str) -> int:
        """Up to where ``text`` may be shown for a while: nothing that comes next can turn its end into a secret."""
        if self._finder is not None:
            for start in range(max(0, len(text) - self.longest + 1), len(text)):
                if self._finder.begins_form(_encode(text[start:])) and not self._is_within_form(text, start):
                    return start
        return len(text)

    def _is_within_form(self, text: str, at: int) -> bool:
        """Whether a form that is whole has begun before, and not ended: what begins there is masked with it."""
        assert self._finder is not None
        place = len(_encode(text[:at]))
        return any(start < place < end for start, end in self._finder.spans(_encode(text)))

    def cut(self, text: str) -> int:
        """Up to where ``text`` may be masked and passed on when more of the same line is to come."""
        if self._finder is None:
            return len(text)
        end = max(0, len(text) - self.longest + 1)
        data, end_bytes = _encode(text), len(_encode(text[:end]))
        for start, stop in self._finder.spans(data):
            if start < end_bytes < stop:
                return len(_decode(data[:stop]))
        return end


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def forms_of(secrets: Iterable[bytes]) -> list[str]:
    """All forms that give one of the secrets away, longest first. No form has a line feed in it."""
    return sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)


def _forms(secret: bytes) -> Iterator[str]:
    """Everything of MIN_LENGTH or more that gives the secret, or a line of it, away."""
    values = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    for value in values:
        if len(value) >= MIN_LENGTH:
            yield from (form for form in _encoded(value) if len(form) >= MIN_LENGTH)


def _encoded(value: bytes) -> Iterator[str]:
    text = value.decode("utf-8", "replace")
    if "\n" not in text:
        yield text
        yield from _of_shells(text)
        yield from (escape(text, quote=True), escape(text, quote=False), _in_html_of_go(text))
    yield from _of_urls(text)
    yield from _of_json(text)
    yield value.hex()
    yield value.hex().upper()
    yield from _base64(value)


def _of_urls(text: str) -> Iterator[str]:
    kept = ("", "/", "!'()*", "/:@!$&'()*+,;=")  # by Python, twice; encodeURIComponent; in the path of an address
    for escaped in (quote_plus(text), *(quote(text, safe=safe) for safe in kept)):
        yield escaped
        yield _PERCENT.sub(lambda match: match[0].lower(), escaped)


def _of_json(text: str) -> Iterator[str]:
    """Python's, JavaScript's and Go's; and each of them once more, as a string within JSON."""
    for inner in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], _in_json_of_go(text)):
        yield inner
        yield json.dumps(inner)[1:-1]
        yield json.dumps(inner, ensure_ascii=False)[1:-1]
        yield _in_json_of_go(inner)


def _in_json_of_go(text: str) -> str:
    """``encoding/json``, "String values encode as JSON strings … the runes <, >, &, U+2028 and U+2029 are escaped"."""
    return json.dumps(text, ensure_ascii=False)[1:-1].translate(_GO)


def _in_html_of_go(text: str) -> str:
    """``html.EscapeString``."""
    return escape(text, quote=False).replace("'", "&#39;").replace('"', "&#34;")


def _of_shells(text: str) -> Iterator[str]:
    yield shlex.quote(text).strip("'")
    yield text.replace("'", "'\\''")  # as bash shows what it runs (set -x), and coreutils' printf %q
    yield _BASH_SPECIAL.sub(r"\\\g<0>", text)  # bash's printf %q; a '#' or '~' may be quoted in front alone
    yield _BASH_ANYWHERE.sub(r"\\\g<0>", text)
    yield _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", text)
    yield text.replace("\\", "\\\\").replace("'", "\\'")  # $'…'
    yield text.encode("unicode_escape").decode()  # Python's repr()


def _base64(value: bytes) -> Iterator[str]:
    """The part of the encoding that depends on nothing but the value, at each alignment; and its wrapped lines."""
    for alignment in range(3):
        before = (8 * alignment + 5) // 6  # characters that also depend on what stands before
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(alignment) + value).decode().rstrip("=")
            if len(text) - before > MIN_LENGTH:
                yield text[before:]  # where the value is the end of what was encoded
                if (alignment + len(value)) % 3:
                    yield text[before:-1]  # the last character depends on what follows
    if len(value) > _BASE64_LINE_BYTES:
        for start in range(0, len(value), _BASE64_LINE_BYTES):
            line = base64.b64encode(value[start : start + _BASE64_LINE_BYTES]).decode().rstrip("=")
            if len(line) > 2 * MIN_LENGTH:
                yield line
                if len(line) % 4:
                    yield line[:-1]
