"""``python -m dockerfile_grammar``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dockerfile_grammar.__main__ import main

EXPECTED = {
    "instructions": [
        {
            "instruction": "FROM",
            "flags": [],
            "arguments": ["debian"],
            "json": False,
            "heredocs": [],
            "start_line": 1,
            "end_line": 1,
        },
        {
            "instruction": "RUN",
            "flags": ["--mount=type=tmpfs,target=/x"],
            "arguments": ["<<EOF"],
            "json": False,
            "heredocs": [{"name": "EOF", "content": "é\n", "expand": True, "chomp": False}],
            "start_line": 2,
            "end_line": 4,
        },
    ]
}
TEXT = "FROM debian\nRUN --mount=type=tmpfs,target=/x <<EOF\né\nEOF\n"


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "dockerfile_grammar", *arguments], input=stdin.encode(), capture_output=True, check=False
    )


def test_prints_the_parse_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT, "utf-8")
    result = run(str(path))
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout) == EXPECTED


def test_reads_standard_input() -> None:
    assert json.loads(run("-", stdin=TEXT).stdout) == EXPECTED


def test_error_goes_to_standard_error_with_status_1() -> None:
    result = run("-", stdin="FROM debian\nCPOY a b\n")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().splitlines() == [
        "Dockerfile:2:1: unknown instruction: CPOY",
        "    2 | CPOY a b",
        "      | ^^^^",
        "hint: did you mean COPY?",
    ]


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/Dockerfile"]) == 1
    assert capsys.readouterr().err == "/nowhere/Dockerfile: No such file or directory\n"


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_output_is_before_meaning_as_in_buildkits_parser(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("CMD --doit [ ]\nHEALTHCHECK CONNECT TCP 7000\n")
    assert main([str(path)]) == 0
    instructions = json.loads(capsys.readouterr().out)["instructions"]
    assert [(item["flags"], item["arguments"], item["json"]) for item in instructions] == [
        (["--doit"], [], True),
        ([], ["CONNECT", "TCP 7000"], False),
    ]
