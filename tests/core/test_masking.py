"""The finder of secrets' forms, held against the regular expression that it stands for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.masking import MASK, MIN_LENGTH, FormFinder, Masker, forms_of

_few = st.sampled_from([97, 98, 99])
_secrets = st.lists(st.text("ab", min_size=4, max_size=12), min_size=1, max_size=3)
_forms = st.lists(st.lists(_few, min_size=4, max_size=40).map(bytes), min_size=1, max_size=12)


@given(_forms, st.lists(_few, max_size=300).map(bytes), st.data())
def test_forms_are_replaced_as_by_a_regular_expression(forms: list[bytes], noise: bytes, data: st.DataObject) -> None:
    text = noise
    for form in data.draw(st.lists(st.sampled_from(forms), max_size=3)):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + form + text[at:]
    longest_first = sorted(set(forms), key=len, reverse=True)
    expected = re.sub(b"|".join(map(re.escape, longest_first)), b"*", text)
    assert FormFinder(forms).replace(text, b"*") == expected


@given(_forms, st.lists(_few, min_size=1, max_size=40).map(bytes))
def test_beginning_of_a_form_is_known(forms: list[bytes], end: bytes) -> None:
    expected = any(len(form) > len(end) and form.startswith(end) for form in forms)
    assert FormFinder(forms).begins_form(end) is expected


def test_shortest_secret_that_may_be_kept_is_masked() -> None:
    secret = b"q7Zx"
    assert len(secret) == MIN_LENGTH
    assert Masker([secret]).mask("-q7Zx-") == f"-{MASK}-"
    assert Masker([b"first\nq7Zx\n"]).mask("-q7Zx-") == f"-{MASK}-"
    assert Masker([secret[:-1]]).mask("-q7Z-") == "-q7Z-"  # it would hide half of every log


def test_text_without_a_secret_is_the_same_object() -> None:
    text = "nothing to see, äöü" * 100
    assert Masker([b"hunter22"]).mask(text) is text


@given(st.text(max_size=80), st.text(max_size=80))
def test_secret_is_masked_between_any_characters(before: str, after: str) -> None:
    masked = Masker([b"correct-horse-battery"]).mask(f"{before}correct-horse-battery{after}")
    assert "correct-horse" not in masked
    assert MASK in masked


SECRET = "p&ss/<w>rd$1 'x' \"y\" ~z\\q"
"""Something of everything that tools escape."""

FORMS: dict[str, str] = {
    "as it is": SECRET,
    "quote, leaving the slash": "p%26ss/%3Cw%3Erd%241%20%27x%27%20%22y%22%20~z%5Cq",
    "quote": "p%26ss%2F%3Cw%3Erd%241%20%27x%27%20%22y%22%20~z%5Cq",
    "lower-case escapes": "p%26ss%2f%3cw%3erd%241%20%27x%27%20%22y%22%20~z%5cq",
    "lower-case escapes, leaving the slash": "p%26ss/%3cw%3erd%241%20%27x%27%20%22y%22%20~z%5cq",
    "a form's": "p%26ss%2F%3Cw%3Erd%241+%27x%27+%22y%22+~z%5Cq",
    "encodeURIComponent": "p%26ss%2F%3Cw%3Erd%241%20'x'%20%22y%22%20~z%5Cq",
    "JSON": "p&ss/<w>rd$1 'x' \\\"y\\\" ~z\\\\q",
    "JSON of Go": "p\\u0026ss/\\u003cw\\u003erd$1 'x' \\\"y\\\" ~z\\\\q",
    "JSON in JSON": "p&ss/<w>rd$1 'x' \\\\\\\"y\\\\\\\" ~z\\\\\\\\q",
    "JSON of Go in JSON": "p\\\\u0026ss/\\\\u003cw\\\\u003erd$1 'x' \\\\\\\"y\\\\\\\" ~z\\\\\\\\q",
    "shlex.quote": "p&ss/<w>rd$1 '\"'\"'x'\"'\"' \"y\" ~z\\q",
    "set -x": "p&ss/<w>rd$1 '\\''x'\\'' \"y\" ~z\\q",
    "printf %q": "p\\&ss/\\<w\\>rd\\$1\\ \\'x\\'\\ \\\"y\\\"\\ ~z\\\\q",
    "in double quotes": "p&ss/<w>rd\\$1 'x' \\\"y\\\" ~z\\\\q",
    "$'…'": "p&ss/<w>rd$1 \\'x\\' \"y\" ~z\\\\q",
    "repr": "p&ss/<w>rd$1 'x' \"y\" ~z\\\\q",
    "HTML": "p&amp;ss/&lt;w&gt;rd$1 &#x27;x&#x27; &quot;y&quot; ~z\\q",
    "HTML of Go": "p&amp;ss/&lt;w&gt;rd$1 &#39;x&#39; &#34;y&#34; ~z\\q",
    "hexadecimal": SECRET.encode().hex(),
    "hexadecimal, upper case": SECRET.encode().hex().upper(),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 of addresses": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "base64, one behind": base64.b64encode(b"x" + SECRET.encode()).decode()[2:],
    "base64, two behind": base64.b64encode(b"xx" + SECRET.encode()).decode()[3:],
}


@pytest.mark.parametrize("form", FORMS)
def test_form_that_tools_print_is_masked(form: str) -> None:
    masker = Masker([SECRET.encode()])
    shown = masker.mask(f"before {FORMS[form]} after")
    assert re.fullmatch(r"before \*\*\*[=A-Za-z0-9/+_-]{0,4} after", shown), shown


@pytest.mark.parametrize(
    "secret", [SECRET, "#begins so", "~/home", "tab\tand nothing", "a,b{c}[d]*?!", "ümlaut & more", "it's"]
)
@pytest.mark.parametrize("script", ['printf "%q\\n" "$S"', 'echo "${S@Q}"', 'set -x; : "$S"', "declare -p S"])
def test_what_bash_prints_is_masked(secret: str, script: str) -> None:
    done = subprocess.run(
        ["bash", "-c", script], env={"S": secret, "LC_ALL": "C.UTF-8"}, check=True, capture_output=True, text=True
    )
    told = done.stdout + done.stderr
    shown = Masker([secret.encode()]).mask(told)
    assert MASK in shown, told
    assert secret[2:] not in shown


_shown = st.characters(min_codepoint=33, exclude_categories=["C", "Z"])


@given(st.text(_shown, min_size=4, max_size=30))
def test_json_of_anything_is_masked_whoever_escapes_it(secret: str) -> None:
    masker = Masker([secret.encode()])
    for ascii_only in (True, False):
        inner = json.dumps({"key": secret}, ensure_ascii=ascii_only)
        assert masker.mask(inner) == '{"key": "***"}'
        assert json.loads(masker.mask(json.dumps(inner, ensure_ascii=ascii_only))) == '{"key": "***"}'


@given(st.text(_shown, min_size=4, max_size=30).map(lambda text: f"<{text}>\n"))
def test_no_form_has_a_line_feed_in_it(secret: str) -> None:
    """What masks whole lines, and what holds output back, counts on it."""
    assert [form for form in forms_of([secret.encode()]) if "\n" in form] == []


class Counted(bytes):
    """Bytes that count how often something is looked for, or compared, in them."""

    asked = 0

    def find(self, *arguments: Any) -> int:
        type(self).asked += 1
        return super().find(*arguments)

    def startswith(self, *arguments: Any) -> bool:
        type(self).asked += 1
        return super().startswith(*arguments)


def asked(finder: FormFinder, data: bytes) -> int:
    Counted.asked = 0
    finder.spans(Counted(data))
    return Counted.asked


def test_text_without_secrets_is_gone_through_once_however_many_there_are() -> None:
    """One pass, in C, of a word each 4 or 8 bytes: nothing is looked for form by form."""
    text = b"#12 [build 3/9] RUN make all && echo done: compiling main.o, linking; 42 % \n" * 1000
    forms = [f"S{number}K-{number * 7919:09d}-xyz".encode() for number in range(5000)]
    few, many = FormFinder(forms[:1]), FormFinder(forms)
    assert (asked(few, text), asked(many, text)) == (0, 0)


def test_numbers_of_a_log_are_hardly_ever_taken_for_hexadecimal_secrets() -> None:
    secrets = [hashlib.sha1(b"%d" % number).hexdigest().encode() for number in range(20)]
    text = b"".join(b"[%7d] cc -c part%d.c -o out/%x.o\n" % (number, number % 97, number) for number in range(20_000))
    assert asked(FormFinder(form.encode() for form in forms_of(secrets)), text) < len(text) / 5000


def test_text_that_is_all_but_a_secret_costs_no_more_than_its_length() -> None:
    assert asked(FormFinder([b"a" * 15 + b"b"]), b"a" * 8000) <= 8000 // 8 * 8
    assert asked(FormFinder([b"a" * 7 + b"b"]), b"a" * 8000) <= 8000 // 4 * 4


@given(
    st.lists(st.text("ab", min_size=4, max_size=12), min_size=1, max_size=3), st.text("abc", max_size=40), st.text("ab")
)
def test_what_is_shown_of_a_line_that_goes_on_is_as_it_will_be(secrets: list[str], begun: str, more: str) -> None:
    masker = Masker(secret.encode() for secret in secrets)
    shown = masker.mask(begun[: masker.safe(begun)])
    assert masker.mask(begun + more).startswith(shown)


def test_half_of_a_secret_that_repeats_itself_is_not_shown() -> None:
    masker = Masker([b"hunter2-hunter2"])
    assert masker.mask("key: hunter2-hunter2"[: masker.safe("key: hunter2-hunter2")]) == "key: ***"
