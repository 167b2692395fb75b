"""``shiplap pull``, ``push``, ``login``, ``logout``, as a user runs them."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.progress.screen import Screen
from cli.progress.transfers import PlainTransfers, TtyTransfers, open_transfers
from registry.client import LayerProgress
from tests.registry.conftest import layer_tar
from tests.toolkit.bounds import stretched
from tests.toolkit.faulty import Answer, ScriptedRegistry, Seen
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry, debian_registry
from tests.toolkit.shiplap import Shiplap


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[DebianRegistry]:
    directory = tmp_path / "guarded"
    directory.mkdir()
    passwords = directory / "htpasswd"
    passwords.write_text(run_tool("htpasswd", "-Bbn", "alice", "s3cret"))
    with debian_registry(directory, {"auth": {"htpasswd": {"realm": "test", "path": str(passwords)}}}) as registry:
        yield registry


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(layer_tar("file", 100_000))
    return path


def test_push_and_pull(shiplap: Shiplap, plain_registry: DebianRegistry, rootfs: Path) -> None:
    name = f"{plain_registry.host}/cli/app:1"
    shiplap("image", "import", rootfs, name)
    pushed = shiplap("push", name)
    first, layer, last = pushed.stdout.splitlines()
    assert first == f"The push refers to repository [{plain_registry.host}/cli/app]"
    assert layer.endswith(": Pushed")
    digest = last.split()[2]
    assert last.startswith("1: digest: sha256:")
    shiplap("image", "rm", name)
    pulled = shiplap("pull", name)
    assert pulled.stdout.splitlines()[0] == "1: Pulling from cli/app"
    assert pulled.stdout.splitlines()[-3:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert "Image is up to date" in shiplap("pull", name).stdout
    assert shiplap("pull", "-q", name).stdout == f"{name}\n"
    assert shiplap.json("image", "inspect", name)[0]["Digest"] == digest


def test_errors_have_a_hint_and_the_rest_goes_on(
    shiplap: Shiplap, plain_registry: DebianRegistry, rootfs: Path
) -> None:
    name = f"{plain_registry.host}/cli/other:1"
    shiplap("image", "import", rootfs, name)
    shiplap("push", "-q", name)
    result = shiplap("pull", f"{plain_registry.host}/cli/nothing", name, check=False)
    assert result.returncode == 1
    assert "error: GET http://127.0.0.1" in result.stderr
    assert "MANIFEST_UNKNOWN" in result.stderr
    assert "hint: is the name spelt right?" in result.stderr
    assert result.stdout.endswith(f"{name}\n")


def test_login_push_logout(shiplap: Shiplap, guarded: DebianRegistry, rootfs: Path, docker_config: Path) -> None:
    env = {"DOCKER_CONFIG": str(docker_config)}
    name = f"{guarded.host}/app:1"
    shiplap("image", "import", rootfs, name)
    refused = shiplap("push", name, env=env, check=False)
    assert refused.returncode == 1
    assert f"hint: it may need credentials: shiplap login {guarded.host}" in refused.stderr
    login = ("login", "-u", "alice", "--password-stdin", guarded.host)
    wrong = shiplap(*login, stdin="wrong\n", env=env, check=False)
    assert wrong.returncode == 1
    assert "does not accept these credentials" in wrong.stderr
    assert shiplap(*login, stdin="s3cret\n", env=env).stdout == "Login Succeeded\n"
    assert "existing credentials" in shiplap("login", guarded.host, env=env).stdout
    shiplap("push", name, env=env)
    run_tool(
        *("skopeo", "inspect", "--tls-verify=false", "--authfile", docker_config / "config.json", f"docker://{name}")
    )
    assert shiplap("logout", guarded.host, env=env).stdout == f"Removed the credentials for {guarded.host}\n"
    assert shiplap("logout", guarded.host, env=env).stdout == f"Not logged in to {guarded.host}\n"
    assert json.loads((docker_config / "config.json").read_text()) == {"auths": {}}


def test_login_asks_on_a_terminal(shiplap: Shiplap, guarded: DebianRegistry, docker_config: Path) -> None:
    ours, theirs = pty.openpty()
    env = shiplap.environment({"DOCKER_CONFIG": str(docker_config)})
    command = [sys.executable, "-P", "-m", "cli", "login", guarded.host]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    said = _until(ours, b"Username for ")
    os.write(ours, b"alice\n")
    said += _until(ours, b"Password: ")
    os.write(ours, b"s3cret\n")
    said += _until(ours, b"Login Succeeded")
    assert process.wait(stretched(30)) == 0
    os.close(ours)
    assert b"s3cret" not in said


def _until(fd: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said:
        said += os.read(fd, 4096)
    return said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("login", "--password-stdin", "ci:5000"), "--password-stdin needs the user's name"),
        (("login", "-u", "a", "-p", "b", "--password-stdin", "ci:5000"), "exclude each other"),
        (("login", "-u", "a", "ci:5000"), "no terminal to ask"),
        (("login", "a b"), "no name of a registry"),
        (("pull", "UPPER"), "invalid image name"),
        (("pull", "--platform", "a/b/c/d", "x"), "invalid platform"),
        (("push", "nothing-of-this-name"), "no such image"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str, shiplap: Shiplap, docker_config: Path) -> None:
    result = shiplap(*arguments, check=False, env={"DOCKER_CONFIG": str(docker_config)})
    assert result.returncode == 1
    assert message in result.stderr
    assert "hint:" in result.stderr


@pytest.fixture
def stalled(scripted: ScriptedRegistry) -> Iterator[tuple[str, threading.Event]]:
    """The name of an image whose layer does not come the first three times, and what is set when it is asked for."""
    layer = layer_tar("x", 400_000)
    digest = scripted.add_blob(layer)
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}})
    kind = "application/vnd.oci.image"
    config_digest = scripted.add_blob(config.encode())
    scripted.add_manifest(
        "1",
        {
            "schemaVersion": 2,
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": digest, "size": len(layer)}],
        },
    )
    asked, over = threading.Event(), threading.Event()

    def stall(seen: Seen, answer: Answer) -> Answer:
        asked.set()
        over.wait(stretched(60))
        return answer

    scripted.fault(f"GET .*{digest}", *[stall] * 3)
    yield f"{scripted.host}/app:1", asked
    over.set()


def test_interrupted_pull_exits_130_and_leaves_nothing(shiplap: Shiplap, stalled: tuple[str, threading.Event]) -> None:
    name, asked = stalled
    process = shiplap.start("pull", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert asked.wait(stretched(60))
    process.send_signal(signal.SIGINT)
    assert process.wait(stretched(30)) == 130  # although the registry says nothing
    assert shiplap.json("image", "ls", "--json") == []
    assert shiplap("image", "verify").returncode == 0


def test_killed_pull_is_begun_anew(
    shiplap: Shiplap, scripted: ScriptedRegistry, stalled: tuple[str, threading.Event]
) -> None:
    name, asked = stalled
    process = shiplap.start("pull", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert asked.wait(stretched(60))
    process.kill()
    process.wait()
    scripted.faults.clear()
    shiplap("pull", name)
    shiplap("image", "verify")
    assert [path.name for path in (shiplap.root / "tmp").iterdir() if path.is_dir() and path.name[0] != "."] == []


def test_memory_does_not_grow_with_the_layer(shiplap: Shiplap, plain_registry: DebianRegistry, tmp_path: Path) -> None:
    name = f"{plain_registry.host}/cli/big:1"
    (tmp_path / "big.tar").write_bytes(layer_tar("big", 200_000_000))
    shiplap("image", "import", tmp_path / "big.tar", name)
    # Measured by a process between: what a process inherits from pytest at its start counts as its own.
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for command in (("push",), ("image", "rm"), ("pull",)):
        peak_kb = int(shiplap(*command, name, prefix=(sys.executable, "-c", code)).stdout)
        assert peak_kb < 100_000, command


def progress(state: str, current: int = 0, layer: str = "aaaaaaaaaaaa", detail: str = "") -> LayerProgress:
    return LayerProgress(layer, state, current, 10_000_000, detail)  # type: ignore[arg-type]


def test_plain_display_tells_what_became_of_each_layer() -> None:
    sink, now = io.StringIO(), [0.0]
    with PlainTransfers(sink, clock=lambda: now[0]) as display:
        display.message("latest: Pulling from app")
        display.layer(progress("Waiting"))
        display.layer(progress("Downloading", 1))
        now[0] = 11.0
        display.layer(progress("Downloading", 5_000_000))
        display.layer(progress("Downloading", 6_000_000))
        display.layer(progress("Pull complete", 10_000_000))
        display.layer(progress("Mounted from", layer="bbbbbbbbbbbb", detail="base/\x1b[2Jdebian"))
    assert sink.getvalue().splitlines() == [
        "latest: Pulling from app",
        "aaaaaaaaaaaa: Downloading 5MB/10MB",
        "aaaaaaaaaaaa: Pull complete",
        "bbbbbbbbbbbb: Mounted from base/debian",
    ]


def test_terminal_display_has_a_bar_with_rate_for_each_layer() -> None:
    sink, now = io.StringIO(), [0.0]
    display = TtyTransfers(Screen(sink, size=lambda: (100, 10), colours=False), clock=lambda: now[0])
    display.message("latest: Pulling from app")
    display.layer(progress("Downloading", 0))
    now[0] = 1.0
    display.layer(progress("Downloading", 5_000_000))
    display.layer(progress("Already exists", layer="bbbbbbbbbbbb"))
    shown = [row.fit(80) for row in display.rows(10)]
    assert shown == [
        "latest: Pulling from app",
        "aaaaaaaaaaaa: Downloading [===============>              ] 5MB/10MB        5MB/s",
        "bbbbbbbbbbbb: Already exists",
    ]


def test_layers_that_are_done_give_way_on_a_small_terminal() -> None:
    display = TtyTransfers(Screen(io.StringIO(), size=lambda: (80, 8), colours=False))
    for number in range(20):
        display.layer(progress("Pull complete" if number < 16 else "Downloading", layer=f"{number:012}"))
    shown = [row.text for row in display.rows(8)]
    assert len(shown) <= 7
    assert shown[0] == "… 15 more layers done"
    assert sum("Downloading" in text for text in shown) == 4
    assert len(display.rows(None)) == 20


def test_display_paints_until_it_is_closed_and_survives_a_closed_pipe() -> None:
    sink = io.StringIO()
    with open_transfers("plain", sink) as display:
        display.message("hello")
    assert sink.getvalue() == "hello\n"


def test_transfer_goes_on_when_nobody_reads_its_progress() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with open_transfers("plain", Broken()) as display:
        display.message("hello")
        display.layer(progress("Pushed"))
