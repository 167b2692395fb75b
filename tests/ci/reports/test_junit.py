"""Reports in the form of JUnit: what reporters write, what nobody should, and names that stay."""

from __future__ import annotations

import pytest

from ci.reports.junit import MOST_MESSAGE, MOST_OUTPUT, JUnitError, Masking, TooManyCases, read_junit
from ci.reports.model import Case
from core.cancellation import asking
from core.masking import Masker


def cases(text: str | bytes, **options: object) -> list[Case]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_junit([data], **options))  # type: ignore[arg-type]


PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1"
 failures="1" skipped="1" tests="4" time="0.034" timestamp="2026-11-28T10:00:00" hostname="x">
<testcase classname="tests.test_a.TestSum" name="test_one[3.10]" time="0.001" file="tests/test_a.py" line="12"/>
<testcase classname="tests.test_a" name="test_two" time="1,200.5">
<failure message="assert 1 == 2&#10;and more">def test_two():
&gt;       assert 1 == 2
E       assert 1 == 2</failure><system-out>printed</system-out></testcase>
<testcase classname="tests.test_a" name="test_three" time="0.000">
<skipped type="pytest.skip" message="no disk">x:1: no disk</skipped></testcase>
<testcase classname="tests.test_b" name="test_four" time="nan">
<error message="failed on setup">Traceback</error></testcase>
</testsuite></testsuites>"""


def test_what_pytest_writes() -> None:
    one, two, three, four = cases(PYTEST)
    assert one == Case("tests.test_a.TestSum", "test_one[3.10]", "passed", 0.001)
    assert (two.outcome, two.seconds, two.message) == ("failed", 1200.5, "assert 1 == 2\nand more")
    assert two.output == "def test_two():\n>       assert 1 == 2\nE       assert 1 == 2\nprinted"
    assert three == Case("tests.test_a", "test_three", "skipped", 0.0, "no disk")
    assert (four.outcome, four.seconds, four.output) == ("error", 0.0, "Traceback")


def test_what_surefire_gradle_go_and_javascript_write() -> None:
    found = cases("""<testsuites><testsuite name="com.acme.PayTest">
<properties><property name="a" value="b"/></properties>
<testcase name="retried" classname="com.acme.PayTest" time="0.1">
  <flakyFailure message="timed out" type="E"><stackTrace>at Pay.java:7</stackTrace>
  <system-out>no</system-out></flakyFailure>
</testcase>
<testcase name="broken" classname="com.acme.PayTest">
  <failure message="first" type="E">at Pay.java:9</failure>
  <rerunFailure message="again" type="E"><stackTrace>again</stackTrace></rerunFailure>
</testcase>
<system-out>of the suite</system-out></testsuite>
<testsuite name="pkg/api"><testcase name="TestGet/empty" time="0.01">
<failure type="">    api_test.go:41: got 1</failure></testcase></testsuite>
<testsuite name=""><testsuite name="outer"><testsuite><testcase name="inner"/></testsuite></testsuite></testsuite>
<testsuite name="googletest"><testcase name="Off" status="notrun"/></testsuite>
</testsuites>""")
    assert [(case.suite, case.name, case.outcome, case.is_flaky) for case in found] == [
        ("com.acme.PayTest", "retried", "passed", True),
        ("com.acme.PayTest", "broken", "failed", False),
        ("pkg/api", "TestGet/empty", "failed", False),
        ("outer", "inner", "passed", False),
        ("googletest", "Off", "skipped", False),
    ]
    assert found[0].message == "timed out"
    assert (found[1].message, found[1].output) == ("first", "at Pay.java:9")
    assert found[2].message == "api_test.go:41: got 1"


def test_a_moved_line_is_the_same_test() -> None:
    def named(line: int) -> list[tuple[str, str]]:
        text = f"""<testsuite><testcase classname="spec/pay.rb:{line}" name="pays (at pay.test.js:{line}:3)  \n twice"/>
        <testcase name="at 10:{line}" classname="time"/></testsuite>"""
        return [(case.suite, case.name) for case in cases(text)]

    assert named(12)[0] == named(340)[0] == ("spec/pay.rb", "pays (at pay.test.js) twice")
    assert named(12)[1] != named(34)[1]  # no line of a file


def test_namespaces_and_other_encodings() -> None:
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?><j:testsuite xmlns:j="x"><j:testcase name="größe"/></j:testsuite>'
    )
    assert [case.name for case in cases(text.encode("latin-1"))] == ["größe"]
    utf16 = '<?xml version="1.0" encoding="UTF-16"?><testsuite><testcase name="größe"/></testsuite>'.encode("utf-16")
    assert [case.name for case in cases(utf16)] == ["größe"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: no element found"),
        ("<html/>", "it has no <testsuite>"),
        ("<testsuite>", "line 1: no element found"),
        ("<testsuite><testcase name='a'></testsuite>", "mismatched tag"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite/>', "it has a document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>', "it has a document type"),
        ("<testsuite>&unknown;</testsuite>", "undefined entity"),
        (f"<testsuite>{'<a>' * 70}", "nested deeper than 64"),
        ('<?xml version="1.0" encoding="no-such"?><testsuite/>', "line 1: unknown encoding"),
        (b"<testsuite>\xff\xfe</testsuite>", "not well-formed"),
        ("\0" * 100, "not well-formed"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(text: str | bytes, why: str) -> None:
    with pytest.raises(JUnitError, match=why.replace("(", r"\(")):
        cases(text)


def test_a_damaged_file_has_the_tests_before_the_damage() -> None:
    reading = read_junit([b"<testsuite><testcase name='a'/>", b"<testcase name='b'/><", b"<"])
    assert [next(reading).name, next(reading).name] == ["a", "b"]
    with pytest.raises(JUnitError):
        next(reading)


def test_there_is_room_for_so_many() -> None:
    reading = read_junit([b"<testsuite>" + b"<testcase name='a'/>" * 4 + b"</testsuite>"], 3)
    assert [next(reading).name for _ in range(3)] == ["a"] * 3
    with pytest.raises(TooManyCases):
        next(reading)
    assert len(cases("<testsuite>" + "<testcase name='a'/>" * 3 + "</testsuite>", room=3)) == 3


def test_text_is_kept_as_far_as_anybody_reads_it() -> None:
    body = "first line\n" + "x" * 3 * MOST_OUTPUT + "\nlast line"
    (case,) = cases(
        f"<testsuite><testcase name='{'n' * 900}'><failure message='{'m' * 9000}'>{body}</failure>"
        f"<system-out>{'y' * 100}</system-out></testcase></testsuite>"
    )
    assert len(case.name) == 500
    assert len(case.message) == MOST_MESSAGE
    assert case.output.startswith("first line\nxxx")
    assert case.output.endswith("last line\n" + "y" * 100)
    assert "\n[…]\n" in case.output
    assert len(case.output) < MOST_OUTPUT + 200


def test_no_control_characters_come_through() -> None:
    (case,) = cases(
        "<testsuite><testcase name='a&#x85;b'><failure>\x9b31m red&#x7f;\tx</failure></testcase></testsuite>"
    )
    assert (case.name, case.output) == ("ab", "31m red\tx")


def test_no_secret_comes_through_whole_or_at_a_cut() -> None:
    masker = Masker([b"p4ssw0rd&<secret>"])
    escaped = "p4ssw0rd&amp;&lt;secret&gt;"
    half = MOST_OUTPUT // 2
    for shift in range(0, 40, 3):
        body = "x" * (half - shift) + escaped + "y" * MOST_OUTPUT + escaped + "z" * (half - shift)
        text = (
            f"<testsuite><testcase name='n {escaped}' classname='{escaped}'>"
            f"<failure message='is {escaped}'>{body}</failure><system-err>{escaped}</system-err></testcase></testsuite>"
        )
        (case,) = cases(text, masking=Masking(masker.mask, masker.longest))
        everything = " ".join((case.suite, case.name, case.message, case.output))
        for length in range(4, 17):
            assert "p4ssw0rd&<secret>"[:length] not in everything
            assert "p4ssw0rd&<secret>"[-length:] not in everything
        assert case.name == "n ***"
        assert case.message == "is ***"


def test_a_job_that_ends_ends_the_reading() -> None:
    class EndedError(Exception):
        pass

    def ended() -> None:
        raise EndedError

    with asking(ended), pytest.raises(EndedError):
        cases("<testsuite/>")
