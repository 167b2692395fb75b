"""``shiplap user``: people who may sign in, managed from the server's own machine."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.database import migrate
from tests.toolkit.shiplap import Shiplap
from tests.web.processes import WebProcess


@pytest.fixture(scope="module")
def shiplap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shiplap]:
    """The command, on the root of a web process. There is no Redis, and it is not missed."""
    root = tmp_path_factory.mktemp("users") / "root"
    settings = ServiceSettings.from_environ({}, root=str(root))
    migrate(settings)
    with WebProcess(settings):
        yield Shiplap(root)


def test_user_is_added_changed_and_disabled(shiplap: Shiplap) -> None:
    link = shiplap("user", "add", "Alice", "--role", "admin").stdout
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/welcome\?link=\S+\n", link)
    assert shiplap("user", "add", "bob", "--password-stdin", stdin="bob's password\n").stdout == ""
    assert shiplap("user", "link", "BOB").stdout != link
    shiplap("user", "role", "bob", "viewer")
    shiplap("user", "passwd", "bob", "--password-stdin", stdin="another password")
    shiplap("user", "disable", "bob")
    table = shiplap("user", "ls").stdout
    assert re.search(r"^alice +admin +a link, not used yet +never$", table, re.MULTILINE)
    assert re.search(r"^bob +viewer +disabled +never$", table, re.MULTILINE)
    shiplap("user", "enable", "bob")
    assert {user["name"]: user["disabled"] for user in shiplap.json("user", "ls", "--json")} == {
        "alice": False, "bob": False,
    }  # fmt: skip


def test_the_trail_says_what_that_changed(shiplap: Shiplap) -> None:
    shiplap("user", "add", "dora", "--role", "viewer")
    shiplap("user", "role", "dora", "member")
    shiplap("user", "passwd", "dora", "--password-stdin", stdin="dora's password")
    told = shiplap("audit", "--about", "dora", "--action", "change user", "--since", "2026-01-01").stdout
    assert re.search(r"name=dora +password: nothing → set$", told, re.MULTILINE)
    assert re.search(r"name=dora +role: viewer → member$", told, re.MULTILINE)
    assert "dora's password" not in told
    (made,) = shiplap.json("audit", "--about", "dora", "--action", "create user", "--json")
    assert (made["detail"], made["changes"]) == ("role viewer", [])


def test_list_says_how_long_ago_somebody_signed_in(shiplap: Shiplap) -> None:
    shiplap("user", "add", "carol")
    with contextlib.closing(sqlite3.connect(shiplap.root / "serve" / "service.db")) as database, database:
        database.execute("UPDATE users SET signed_in_at = ? WHERE name = 'carol'", (time.time() - 7500,))
    assert re.search(r" 2 hours ago$", shiplap("user", "ls").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (("add", "a b"), "", "name"),
        (("add", "x", "--password-stdin"), "short\n", "password"),
        (("disable", "nobody"), "", "there is no user 'nobody'"),
        (("link", "a b"), "", "name"),
        (("passwd", "nobody"), "", "there is no terminal to ask for the password"),
    ],
)
def test_what_cannot_be_is_said(shiplap: Shiplap, words: tuple[str, ...], stdin: str, message: str) -> None:
    result = shiplap("user", *words, stdin=stdin, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_link_of_the_first_start_is_told_by_the_web_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = ServiceSettings.from_environ({}, root=str(tmp_path / "root"))
    migrate(settings)
    with WebProcess(settings) as web:
        links = [line["link"] for line in map(json.loads, capfd.readouterr().out.splitlines()) if "link" in line]
    assert len(links) == 1
    assert re.fullmatch(rf"{web.url}/welcome\?link=\S{{43}}", links[0])
