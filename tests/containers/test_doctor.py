"""The host's examination: what it finds, what it leaves, and a probe that hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from containers import syscalls
from containers.doctor import Finding, probe
from engine.places import Places
from tests.toolkit.bounds import stretched
from tests.toolkit.host import adopting_orphans, children, mount_table, wait_until_gone


def test_doctor_tries_everything_and_leaves_nothing(privileged: None, tmp_path: Path) -> None:
    before = mount_table()
    findings = probe(tmp_path / "not" / "yet")
    names = [finding.name for finding in findings]
    assert {"user namespace", "idmapped mounts", "EROFS from a file", "cgroups", "pasta", "container network"} <= set(
        names
    )
    assert [finding for finding in findings if not finding.ok] == []
    assert list(tmp_path.iterdir()) == []
    assert mount_table() == before
    assert not Places.of(tmp_path / "not" / "yet").run.exists()


_HIDING = """
for program in mkfs.erofs pasta nft; do
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do
        [ ! -e $folder/$program ] || mount --bind /dev/null $folder/$program
    done
done
exec "$@"
"""
_EROFS_REMEDY = "apt-get install erofs-utils"
_PRINTING = """
import sys, pathlib, json
from containers.doctor import probe
print(json.dumps({finding.name: finding.remedy for finding in probe(pathlib.Path(sys.argv[1])) if not finding.ok}))
"""


def test_doctor_gives_a_remedy_for_each_missing_program(privileged: None, tmp_path: Path) -> None:
    made = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _HIDING, "sh", sys.executable, "-c", _PRINTING, tmp_path],
        cwd=Path(__file__).parents[2], check=True, stdout=subprocess.PIPE, timeout=stretched(60),
    )  # fmt: skip
    remedies = json.loads(made.stdout)
    assert remedies["pasta"].startswith("apt-get install passt;")
    assert remedies["nft"].startswith("apt-get install nftables;")
    assert remedies["container network"] in (remedies["pasta"], remedies["nft"])  # by whichever way it would go
    assert remedies["mkfs.erofs"] == "apt-get install erofs-utils"


def test_doctor_looks_for_programs_where_containers_find_them(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PATH of ordinary users lacks /usr/sbin, where nft is."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert {finding.name for finding in probe(tmp_path) if not finding.ok} == {"mkfs.erofs", "EROFS from a file"}


@pytest.mark.parametrize(
    ("script", "detail", "remedy"),
    [
        ("#!/bin/sh\necho no --tar >&2; exit 1\n", "no --tar", "a newer erofs-utils: 1.7 or later"),
        ("#!/bin/sh\nexit 3\n", "mkfs.erofs failed", "a newer erofs-utils: 1.7 or later"),
        ("#!/nowhere/sh\n", "mkfs.erofs cannot be executed: No such file or directory", _EROFS_REMEDY),
    ],
    ids=["old", "silent", "foreign"],
)  # fmt: skip
def test_doctor_says_what_a_program_said_that_does_not_do(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, detail: str, remedy: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mkfs.erofs").write_text(script)
    (tmp_path / "bin" / "mkfs.erofs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (found,) = (finding for finding in probe(tmp_path / "root") if finding.name == "EROFS from a file")
    assert (found.ok, found.detail, found.remedy, found.essential) == (False, detail, remedy, False)


_HUNG = """
import os, subprocess, sys, time
os.mkdir(sys.argv[2])
subprocess.Popen(["sleep", "600"], cwd=sys.argv[2])  # as a child of clone3 that waits for a lock it cannot have
os.write(1, b'["trying", "this"]\\n["found", {"name": "this", "ok": true, "detail": "works"}]\\n["trying", "that"]\\n')
"""


@pytest.mark.parametrize(
    ("end", "detail"),
    [
        ("time.sleep(600)", "did not end within 3 seconds; what comes after it was not tried"),
        ("sys.exit('gone wrong')", "was left by its process with 1; gone wrong; what comes after it was not tried"),
    ],
    ids=["hangs", "dies"],
)
def test_doctor_gives_up_a_probe_that_hangs_or_dies(tmp_path: Path, end: str, detail: str) -> None:
    with adopting_orphans():
        known = set(children())
        found = probe(tmp_path, silence_s=3, program=_HUNG + end)
        assert wait_until_gone(known) == {}
    assert found[0] == Finding("this", True, "works")
    assert (found[1].name, found[1].ok, found[1].detail) == ("that", False, detail)
    assert list(tmp_path.iterdir()) == []


def test_doctor_examines_from_a_process_with_threads(privileged: None, tmp_path: Path) -> None:
    """A child of clone3 has one thread: it used to wait forever for one that had asked for the interpreter's lock."""
    ended = threading.Event()
    before = sys.getswitchinterval()
    thread = threading.Thread(target=lambda: [None for _ in iter(ended.is_set, True)])
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        findings = probe(tmp_path)
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(before)
    assert [finding for finding in findings if not finding.ok] == []


def test_clone3_refuses_a_process_with_threads() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="with threads"):
            syscalls.clone3(0) or os._exit(0)  # the child of one that was not refused
    finally:
        ended.set()
        thread.join()
