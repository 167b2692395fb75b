"""Shiplap's own ``.shiplap.yml``: Shiplap lints and packs itself, in jobs, on a base made here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from ci.conditions import Event
from ci.parsing import parse_pipeline
from ci.planning import plan
from tests.toolkit.git import git
from tests.toolkit.shiplap import Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]
_FILE = (_CHECKOUT / ".shiplap.yml").read_bytes()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git knows of this checkout and what is new in it, as a repository of its own."""
    listing: list[str | Path] = ["git", "-C", _CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    place = tmp_path / "clone"
    for name in filter(None, names):
        source = _CHECKOUT / name
        if source.is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(source.read_bytes())
            (place / name).chmod(source.stat().st_mode)
    git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "a change")
    return place


def test_jobs_check_what_make_check_checks() -> None:
    """Without mypy, which has a job of its own: it is the slowest."""
    parsed = parse_pipeline(_FILE)
    assert parsed.problems.render() == ""
    found = re.search(r"^CHECKS := (.*)$", (_CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert found
    jobs = [job.name for job in plan(parsed, Event("push", branch="main")).jobs]
    checks = [f"lint ({check})" for check in found[1].split() if check != "types"]
    assert jobs[: len(checks)] == checks
    assert jobs[len(checks) :] == ["types", "test (core)", "test (dockerfile_grammar)", "wheel", "install", "image"]
    assert plan(parsed, Event("push", branch="topic")).reason == "the pipeline is not for branch topic"


def test_shiplap_lints_and_packs_itself(base_store: Shiplap, clone: Path) -> None:
    """Some of its jobs, in the image that its Dockerfile says; then once more, after a change that no wheel has."""

    def states(*jobs: str) -> dict[str, str]:
        printed = base_store("ci", "run", "--progress", "json", *jobs, cwd=clone, timeout_s=900).stderr
        return {name: job["state"] for name, job in json.loads(printed.splitlines()[-1])["jobs"].items()}

    def write_more() -> None:
        with open(clone / "SECURITY.md", "a") as page:
            page.write("\nOne more line.\n")

    jobs = ("lint (format)", "lint (documents)", "wheel", "install")
    write_more()
    assert states(*jobs) == dict.fromkeys(jobs, "succeeded")
    write_more()
    assert states("install") == {"wheel": "succeeded", "install": "reused"}
