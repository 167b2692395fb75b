"""``shiplap man``: a page for each command, which man's own programs read without a complaint."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from cli.commandspage import Listed, listed_commands
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import Shiplap


def _shown(pages: list[Path]) -> list[str]:
    """What man would print of each, in one line."""
    printed = subprocess.run(
        ["mandoc", "-T", "ascii", *pages], stdout=subprocess.PIPE, text=True, check=True, timeout=stretched(120)
    ).stdout
    return [" ".join(page.split()) for page in re.sub(".\b", "", printed).split("\nNAME\n")[1:]]


def _file(command: Listed) -> str:
    return f"shiplap-{command.words.replace(' ', '-')}.1"


def test_each_command_has_a_page_that_says_what_its_help_says(shiplap: Shiplap, tmp_path: Path) -> None:
    place = tmp_path / "man" / "man1"
    listed = list(listed_commands())
    assert shiplap("man", place).stdout == f"{len(listed) + 1} pages in {place}\n"
    pages = sorted(path.name for path in place.iterdir())
    assert pages == sorted(["shiplap.1", *map(_file, listed)])
    complaints = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *sorted(place.iterdir())],
        stdout=subprocess.PIPE, text=True, timeout=stretched(60), check=False,
    ).stdout  # fmt: skip
    assert [line for line in complaints.splitlines() if "missing date" not in line] == []
    groff: list[str | Path] = ["groff", "-man", "-Tutf8", "-ww", "-z", *sorted(place.iterdir())]
    done = subprocess.run(groff, stderr=subprocess.PIPE, text=True, timeout=stretched(60), check=True)
    assert done.stderr == ""
    build = subprocess.run(
        ["man", "-M", place.parent, "shiplap-build"], stdout=subprocess.PIPE, text=True, check=True,
        timeout=stretched(60), env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    ).stdout  # fmt: skip
    assert "SHIPLAP-BUILD(1)" in build
    assert "shiplap build -o type=oci,dest=app.tar ." in build
    assert "'-' for a tar" in " ".join(build.split())
    for command, shown in zip(listed, _shown([place / _file(command) for command in listed]), strict=True):
        assert command.summary.rstrip(".") in shown
        options = [line.split()[0].rstrip(",") for line in command.help.splitlines() if line.startswith("  -")]
        assert [option for option in options if option not in shown] == []


def test_pages_that_are_there_are_replaced_and_others_stay(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "shiplap.1").write_text("old")
    (tmp_path / "other.1").write_text("kept")
    shiplap("man", tmp_path)
    assert (tmp_path / "shiplap.1").read_text().startswith('.TH "SHIPLAP" "1"')
    assert (tmp_path / "other.1").read_text() == "kept"


def test_page_of_a_user_is_where_man_looks_for_it(short_path: Path) -> None:
    asked = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    short_path.chmod(0o777)
    said = Shiplap(short_path / "root")("man", prefix=asked, env={"XDG_DATA_HOME": str(short_path / "data")}).stdout
    assert f"pages in {short_path}/data/man/man1\n" in said
    assert (short_path / "data" / "man" / "man1" / "shiplap-build.1").exists()
