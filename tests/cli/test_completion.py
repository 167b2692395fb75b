"""What the tab key offers: in real shells, and as their scripts are answered."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
from click.shell_completion import CompletionItem

from cli.completion.words import answers
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, COMMAND, Shiplap, start_service
from tests.toolkit.terminals import read_until

_BREAKS: Final = " \t\n\"'><=;|&(:"
"""As bash has them."""
_SHELLS: Final = {
    "bash": (["bash", "--norc", "-i"], "source <(shiplap completion bash)", "$?"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source <(shiplap completion zsh)", "$?"),
    "fish": (["fish", "--no-config", "-i"], "shiplap completion fish | source", "$status"),
}
"""How each is started without the user's files, what makes it ready, and what a command's end is called."""


def with_the_command(shiplap: Shiplap, directory: Path) -> dict[str, str]:
    """An environment in which ``shiplap`` is this checkout's."""
    (directory / "shiplap").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (directory / "shiplap").chmod(0o755)
    return shiplap.environment({"PATH": f"{directory}:{os.environ['PATH']}", "HOME": str(directory)})


class Typist:
    """Somebody at a terminal with a shell in it."""

    def __init__(self, shell: str, shiplap: Shiplap, directory: Path) -> None:
        program, ready, self.status = _SHELLS[shell]
        environment = with_the_command(shiplap, directory)
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *program], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=directory
        )
        os.close(theirs)
        self.type(f"{ready}; echo all ready | tr a-z A-Z\r")
        self.wait_for("ALL READY")

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait until it has come. Fails the test when an error of ours comes before it."""
        said = read_until(self._terminal, text.encode())
        assert b"error:" not in said, said

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.parametrize("shell", list(_SHELLS))
def test_tab_key_completes_commands_and_names(base_store: Shiplap, tmp_path: Path, shell: str) -> None:
    typist = Typist(shell, base_store, tmp_path)
    try:
        typist.type("shiplap image hist\t--help\r")
        typist.wait_for("Usage: shiplap image history")
        typist.type(f"shiplap image history --no-trunc debian:tr\t; echo status {typist.status} | tr a-z A-Z\r")
        typist.wait_for("STATUS 0")
    finally:
        typist.close()


def test_fish_offers_commands_and_names_and_says_what_they_are(base_store: Shiplap, tmp_path: Path) -> None:
    asked = 'shiplap completion fish | source; complete -C "shiplap image hist"; complete -C "shiplap rmi debian:tr"'
    said = subprocess.run(
        ["fish", "--no-config", "-c", asked], env=with_the_command(base_store, tmp_path), stdout=subprocess.PIPE,
        text=True, check=True, timeout=stretched(120),
    ).stdout.splitlines()  # fmt: skip
    assert said[0] == "history\tShow how an image was made."
    assert said[1].split("\t")[0] == "debian:trixie-slim"


def words(shiplap: Shiplap, line: str, *, shell: str = "fish") -> list[str]:
    """The words that are offered after a line."""
    breaks = ("--breaks", _BREAKS) if shell == "bash" else ()
    printed = shiplap("completion", shell, "--line", line, *breaks).stdout.splitlines()
    return [each.split("\t")[1] if each.startswith("plain") else each.split("\t")[0] for each in printed]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("shiplap ru", ["run", "runs"]),
        ("shiplap runs l", ["ls", "logs"]),
        ("shiplap --root /nowhere runs l", ["ls", "logs"]),
        ("shiplap runs logs --fo", ["--follow"]),
        ("shiplap build --progress p", ["plain"]),
        ("shiplap run --restart u", ["unless-stopped"]),
        ("shiplap run --restart=u", ["unless-stopped"]),
        ("shiplap run --cap-drop NET_R", ["NET_RAW"]),
        ("shiplap run --network h", ["host"]),
        ("shiplap ps --format t", ["table"]),
        ("shiplap cp ", ["file"]),
        ("shiplap build --file ", ["file"]),
        ("shiplap build ", ["dir", "history"]),
        ("shiplap build history l", ["ls", "logs"]),
        ("shiplap nonsense ", []),
        ("shiplap rmi", []),
        ("shiplap context use l", ["local"]),
        ("shiplap --host l", ["local"]),
        ("shiplap 'ru", ["run", "runs"]),
        ("shiplap stop ", []),
        ("shiplap runs logs 1 ", []),
        ("shiplap nonsense runs l", []),
    ],
)
def test_words_that_fit(shiplap: Shiplap, line: str, offered: list[str]) -> None:
    assert words(shiplap, line) == offered


def test_nothing_is_made_by_who_only_asks(shiplap: Shiplap) -> None:
    for line in ("shiplap rm ", "shiplap run ", "shiplap volume rm ", "shiplap network rm ", "shiplap runs show "):
        assert words(shiplap, line) == []
    assert not shiplap.root.exists()


@pytest.mark.parametrize("damage", ["garbage", "locked"])
def test_database_that_cannot_be_read_leaves_the_prompt_alone(shiplap: Shiplap, damage: str) -> None:
    shiplap("image", "ls")
    if damage == "garbage":
        (shiplap.root / "store.db").write_bytes(b"no database at all" * 1000)
    else:
        (shiplap.root / "store.db").unlink()
        os.mkfifo(shiplap.root / "store.db")
    asked = ("completion", "bash", "--line", "shiplap rmi ")
    assert shiplap(*asked, check=False).stdout == ""


def test_stages_of_the_dockerfile(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch AS first\nFROM first AS second\nFROM second\n")
    assert words(shiplap, "shiplap build --target ") == ["first", "second"]
    (tmp_path / "other").write_text("FROM scratch AS third\n")
    assert words(shiplap, "shiplap build --file other --target ") == ["third"]
    (tmp_path / "Dockerfile").write_bytes(b"\xff\xfe FORM")
    assert words(shiplap, "shiplap build --target ") == []


def test_server_that_never_answers_is_not_waited_for(shiplap: Shiplap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert words(shiplap, f"shiplap --host {url} runs show ") == []


def test_what_hangs_is_ended_by_the_kernel() -> None:
    code = "import time; from cli.completion.deadline import at_most; at_most(0.1, lambda: time.sleep(1e6)); print(7)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=stretched(60), check=True
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_bash_gets_what_comes_after_a_break_and_words_that_stand_for_themselves(base_store: Shiplap) -> None:
    assert words(base_store, "shiplap image history debian:t", shell="bash") == ["trixie-slim"]
    assert words(base_store, "shiplap image history 'debian:t", shell="bash") == ["debian:trixie-slim"]
    assert words(base_store, "shiplap image history deb", shell="bash") == ["debian:trixie-slim"]


@pytest.fixture
def containers(base_store: Shiplap) -> Iterator[Shiplap]:
    base_store("create", "--name", "tab-made", BUSYBOX_NAME, "true")
    base_store("run", "-d", "--name", "tab-up", BUSYBOX_NAME, "sleep", "1000")
    yield base_store
    base_store("rm", "-f", "-v", "tab-made", "tab-up")


def test_containers_are_offered_by_what_can_be_done_with_them(containers: Shiplap) -> None:
    assert words(containers, "shiplap start tab") == ["tab-made"]
    assert words(containers, "shiplap exec tab") == words(containers, "shiplap container stop tab") == ["tab-up"]
    assert sorted(words(containers, "shiplap rm tab")) == ["tab-made", "tab-up"]
    assert words(containers, "shiplap rename tab-made tab") == []
    assert words(containers, "shiplap unpause tab") == []


def test_names_of_this_machine_are_not_offered_for_another(base_store: Shiplap) -> None:
    assert words(base_store, "shiplap rmi debian") == ["debian:trixie-slim"]
    assert words(base_store, "shiplap --host http://127.0.0.1:1 rmi debian") == []
    assert words(base_store, "shiplap --host local rmi debian") == ["debian:trixie-slim"]


def test_jobs_of_this_repository(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / ".shiplap.yml").write_text("jobs: {lint: {image: a, run: b}, tests: {image: a, run: b}}\n")
    assert words(shiplap, "shiplap ci run ") == ["lint", "tests"]
    assert words(shiplap, "shiplap ci why t") == ["tests"]
    (tmp_path / ".shiplap.yml").write_text("jobs: [")
    assert words(shiplap, "shiplap ci run ") == []


def test_words_stand_for_themselves_in_bash_and_none_is_an_order_to_a_terminal() -> None:
    offered = ["test (3.11)", "$(touch hole)", "plain", "a\x1b[2Jb", "two\nlines", "tea';touch hole;'"]
    argument = click.Argument(["job"], shell_complete=lambda _context, _parameter, _typed: list(offered))
    root = click.Group(commands={"go": click.Command("go", params=[argument])})
    assert list(answers(root, "shiplap go ", _BREAKS)) == [
        "plain\t'test (3.11)'\t", "plain\t'$(touch hole)'\t", "plain\tplain\t",
        """plain\t'tea'"'"';touch hole;'"'"''\t""",
    ]  # fmt: skip
    inside = {"'": ["test (3.11)", "$(touch hole)", "plain"], '"': ["test (3.11)", "plain", "tea';touch hole;'"]}
    for typed, begun in (("'", "'"), ('"', '"'), ("""'a "'"b""", '"')):
        assert list(answers(root, f"shiplap go {typed}", _BREAKS)) == [f"plain\t{word}\t" for word in inside[begun]]
    assert next(answers(root, "shiplap go te")) == "plain\ttest (3.11)\t"


def test_what_a_word_is_gives_no_orders_to_a_terminal() -> None:
    offered = [CompletionItem("go", help="a\x1b]0;title\x07 \x1b[2Jthing\nof\u0085 two")]
    argument = click.Argument(["job"], shell_complete=lambda _context, _parameter, _typed: list(offered))
    root = click.Group(commands={"go": click.Command("go", params=[argument])})
    (told,) = answers(root, "shiplap go ")
    assert told.replace("\t", "").isprintable()
    assert told.startswith("plain\tgo\ta")


def test_runs_and_projects_of_a_server(shiplap: Shiplap, tmp_path: Path) -> None:
    url, process = start_service(shiplap)
    try:
        shiplap("project", "add", "app", "--bare")
        (tmp_path / "context").mkdir()
        (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        shiplap("--host", url, "build", tmp_path / "context")
        assert words(shiplap, f"shiplap --host {url} project show ") == ["app", "default"]
        assert words(shiplap, f"shiplap --host {url} runs show ") == ["1"]
        assert "[2/2] COPY Dockerfile /" in words(shiplap, f"shiplap --host {url} runs logs 1 --step ")
        assert words(shiplap, f"shiplap --host {url} build --project d") == ["default"]
        assert words(shiplap, "shiplap --host http://127.0.0.1:1 runs show ") == []
    finally:
        process.terminate()
        process.wait(stretched(60))
