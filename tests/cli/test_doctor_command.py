"""``shiplap doctor``: what it prints, and when it fails."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

import containers.doctor
from cli.commands.doctor import report
from cli.main import main
from containers.doctor import Finding
from tests.toolkit.shiplap import Shiplap

GOOD = Finding("user namespace", True, "works")
SLOW = Finding("mkfs.erofs", False, "missing", "apt-get install erofs-utils", essential=False)
BAD = Finding("pasta", False, "missing", "apt-get install passt")


def test_table_remedies_and_verdict() -> None:
    assert report([GOOD, SLOW, BAD]) == dedent("""\
        CHECK            STATE     DETAIL
        user namespace   ok        works
        mkfs.erofs       limited   missing
        pasta            MISSING   missing

        What to do:
          mkfs.erofs: apt-get install erofs-utils
          pasta: apt-get install passt

        This host cannot build or run images yet.""")
    assert "What to do" not in report([GOOD])
    assert report([GOOD, SLOW]).endswith("slower or less contained.")


@pytest.mark.parametrize(("findings", "code"), [([GOOD], 0), ([GOOD, SLOW], 0), ([GOOD, BAD], 1)])
def test_it_fails_only_for_what_is_essential(
    findings: list[Finding], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(containers.doctor, "probe", lambda root: findings)
    assert main(["doctor"]) == code
    capsys.readouterr()
    assert main(["doctor", "--json"]) == code
    documents = json.loads(capsys.readouterr().out)
    assert [(document["name"], document["ok"]) for document in documents] == [(f.name, f.ok) for f in findings]


def test_this_host_is_examined_for_real(shiplap: Shiplap, privileged: None) -> None:
    result = shiplap("doctor", "--json", check=False)
    essential = {document["name"]: document["essential"] for document in json.loads(result.stdout)}
    slower = {"mkfs.erofs", "EROFS from a file", "cgroups", "kernel's way out", "clients of published ports"}
    assert {name for name in essential if not essential[name]} == slower
    assert essential["user namespace"]
