"""What a job left as reports: found, read within bounds, and noted where it cannot be read."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest

from ci.model import ReportsWanted
from ci.reports import collecting, files
from ci.reports.collecting import collect
from ci.reports.coverage import CoverageReader, coverage_in, expression_fault
from ci.reports.files import written_in
from ci.reports.model import Case, Reports, Tally, tally
from ci.reports.packing import packed, unpacked
from core.events import NullMonitor, StepOutput
from core.masking import Masker

ONE = "<testsuite name='s'><testcase name='{}'/></testsuite>"


def collected(
    directory: Path,
    *junit: str,
    summary: str = "",
    coverage: float | None = None,
    expression: str = "",
    secret: bytes = b"",
) -> Reports:
    wanted = ReportsWanted(junit, expression, summary)
    with written_in(str(directory)) as written:
        return collect(wanted, written, coverage, Masker([secret] if secret else []))


def test_files_by_patterns_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for path in ("b/junit.xml", "a/deep/er/junit.xml", "a/other.xml", "junit.xml.bak"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(ONE.format(path))
    found = collected(tmp_path, "**/junit.xml")
    assert [case.name for case in found.cases] == ["a/deep/er/junit.xml", "b/junit.xml"]
    assert found.notes == ()
    assert [case.name for case in collected(tmp_path, "a", "!a/deep").cases] == ["a/other.xml"]


def test_no_link_is_followed_and_nothing_else_is_read(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "outside.xml").write_text(ONE.format("outside"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.xml").write_text(ONE.format("elsewhere"))
    (work / "link.xml").symlink_to("../outside.xml")
    (work / "directory").symlink_to("../elsewhere")
    os.mkfifo(work / "fifo.xml")
    (work / "summary.md").symlink_to("/etc/hostname")
    found = collected(work, "**/*.xml", summary="summary.md")
    assert found.cases == ()
    assert found.summary == ""
    assert found.notes[0] == "no file that the job wrote is what `junit` names: **/*.xml"
    assert found.notes[1].startswith("the summary summary.md cannot be read:")


def test_what_cannot_be_read_is_noted_beside_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<testsuite><testcase name='before'/><")
    (tmp_path / "b.xml").write_text(ONE.format("good"))
    (tmp_path / "c.xml").write_bytes(gzip.compress(ONE.format("packed").encode()) * 1)
    (tmp_path / "d.xml").write_bytes(gzip.compress(ONE.format("cut").encode())[:-12])
    (tmp_path / "e\udcff.xml").write_text("no")
    found = collected(tmp_path, "*.xml")
    assert [case.name for case in found.cases] == ["before", "good", "packed", "cut"]
    assert [note.partition(":")[0] for note in found.notes] == [
        "a.xml cannot be read", "d.xml cannot be read", "e\\xff.xml cannot be read",
    ]  # fmt: skip


def test_a_bomb_is_as_large_as_is_read_of_it(tmp_path: Path) -> None:
    bomb = gzip.compress(b"<testsuite>" + b" " * (files.MOST_BYTES + 1))
    (tmp_path / "bomb.xml").write_bytes(gzip.compress(b"<testsuite>"))
    (tmp_path / "bomb2.xml").write_bytes(bomb)
    assert len(bomb) < 100_000
    began = time.process_time()
    found = collected(tmp_path, "bomb2.xml")
    assert found.notes == ("bomb2.xml cannot be read: the reports of a job may have 64 MiB, unpacked, and have more",)
    assert time.process_time() - began < 60  # a bound against hanging


def test_a_hundred_thousand_tests_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MOST_CASES", 1000)
    (tmp_path / "a.xml").write_text("<testsuite>" + "<testcase name='a'/>" * 600 + "</testsuite>")
    (tmp_path / "b.xml").write_text("<testsuite>" + "<testcase name='b'/>" * 600 + "</testsuite>")
    found = collected(tmp_path, "*.xml")
    assert len(found.cases) == 1000
    assert found.notes == ("there are more than 1,000 tests: those after b.xml are left out",)


def test_output_of_all_is_bounded_and_verdicts_are_not_lost(tmp_path: Path) -> None:
    failing = "<testcase name='{}'><failure message='why'>" + "x" * 15_000 + "</failure></testcase>"
    text = "".join(failing.format(number) for number in range(100))
    (tmp_path / "a.xml").write_text(f"<testsuite>{text}</testsuite>")
    found = collected(tmp_path, "a.xml")
    assert tally(found.cases) == Tally(100, 100)
    assert sum(len(case.output) for case in found.cases) <= collecting.MOST_OUTPUT
    assert all(case.message == "why" for case in found.cases)
    assert found.notes == ("the output of some tests is left out: that of all is more than 1 MiB; the log has it",)


def test_many_bad_files_are_a_few_notes(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.xml").write_text("no")
    notes = collected(tmp_path, "*.xml").notes
    assert len(notes) == 21
    assert notes[-1] == "and 30 more"


def test_a_summary_is_text_of_64_kib_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "s.md").write_bytes(b"# Plan\nthe key is sesame-0815 \xff\n" + b"x" * 70_000)
    found = collected(tmp_path, summary="s.md", secret=b"sesame-0815")
    assert found.summary.startswith("# Plan\nthe key is *** \ufffd\nxxx")
    assert len(found.summary) <= 64 << 10
    assert found.notes == ("the summary s.md has more than 64 KiB: its end is left out",)


def test_coverage_is_the_last_number_in_per_cent() -> None:
    table = b"TOTAL  120  3  97%\n\x1b[32mTOTAL\x1b[0m  120  3  98.5%\nTOTAL 120 3 700%\n"
    assert coverage_in(table, r"TOTAL.*?(\d+(?:\.\d+)?)%") == 98.5
    assert coverage_in(b"coverage: 81.2% of statements\n", r"coverage: [\d.]+%") == 81.2
    assert coverage_in(b"nothing", r"TOTAL (\d+)%") is None
    assert coverage_in(b"^line\nTOTAL 7%", r"^TOTAL (\d+)%$") == 7.0


def test_an_expression_is_matched_in_linear_time() -> None:
    began = time.process_time()
    assert coverage_in(b"a" * 200_000, r"(a|a)*(a|a)*(a|a)*(a|a)*(a|a)*b(\d+)") is None
    assert time.process_time() - began < 60
    assert expression_fault(r"(a+)+$") is None
    assert expression_fault("(") is not None
    assert "backtrack" not in (expression_fault(r"(a)\1") or "")
    assert expression_fault(r"(a)\1") is not None
    assert expression_fault(r"(?=a)") is not None


def test_coverage_is_that_of_the_last_step_that_printed_one() -> None:
    reader = CoverageReader(NullMonitor(), r"cov (\d+)%")
    for step, text in (
        (1, b"cov 1"),
        (1, b"0%\n"),
        (2, b"x" * 400_000),
        (2, b"\ncov 20%\n"),
        (2, b"y" * 100),
        (3, b"end\n"),
    ):
        reader.emit(StepOutput(step, 1, text, 0.0))
    assert reader.coverage() == 20.0


def test_reports_are_packed_and_garbage_is_none() -> None:
    reports = Reports((Case("s", "n", "failed", 1.5, "m", "o", True),), 97.5, "# x", ("note",))
    assert unpacked(packed(reports)) == reports
    assert unpacked(packed(None)) is None
    assert unpacked(b"garbage") is None
    assert unpacked(packed(reports)[:-4]) is None
    assert not Reports()
    assert Reports(coverage=0.0)
