"""Small things that every room leans on: Go's text, packets, watches, proxies, processes, tables, file systems."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import filesystems, gotext, markdown, openfiles, owners, packets, processes, release
from core.connections import OpenSockets, is_exempt, reason
from core.errors import SettingsError
from core.proxies import TrustedProxies, parse_address
from core.quantities import parse_size
from core.watching import Watch
from tests.toolkit.bounds import eventually, stretched

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"), (1, "1ns"), (999, "999ns"), (1000, "1µs"), (1500, "1.5µs"), (999_999, "999.999µs"),
        (1_000_000, "1ms"), (SECOND - 1, "999.999999ms"), (SECOND, "1s"), (1_500_000_000, "1.5s"),
        (59 * SECOND, "59s"), (60 * SECOND, "1m0s"), (90 * SECOND, "1m30s"), (3600 * SECOND, "1h0m0s"),
        (3661 * SECOND + 1, "1h1m1.000000001s"), (-90 * SECOND, "-1m30s"), (-1, "-1ns"),
    ],
)  # fmt: skip
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert gotext.duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'), ('"', '"\\""'), ("'", '"\'"'), ("\\", '"\\\\"'), ("\n\t\a", '"\\n\\t\\a"'), ("\x03", '"\\x03"'),
        ("\x7f", '"\\x7f"'), ("\x80", '"\\u0080"'), ("é日", '"é日"'), ("\u200b", '"\\u200b"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)  # fmt: skip
def test_text_as_go_quotes_it(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted


def test_lists_and_runes_as_go_quotes_them() -> None:
    assert gotext.quote_list(["a", "b c"]) == '["a" "b c"]'
    assert gotext.quote_list([]) == "[]"
    assert gotext.quote_rune(97) == "'a'"
    assert gotext.quote_rune(3) == "'\\x03'"
    assert gotext.quote_rune(39) == "'\\''"
    assert gotext.quote_rune(-1) == "'�'"
    assert gotext.quote_rune(0x10FFFF) == "'\\U0010ffff'"
    assert gotext.quote_rune(0x110000) == "'�'"


def test_packets_are_whole_with_their_descriptors() -> None:
    ours, theirs = packets.pair()
    reading, writing = os.pipe()
    try:
        packets.send(ours, b"hello", [reading, writing])
        packets.send(ours, b"")
        packets.send(ours, b"x" * packets.MAX_BYTES)
        received = packets.receive(theirs)
        assert received is not None
        data, fds, is_whole = received
        assert (data, len(fds), is_whole) == (b"hello", 2, True)
        assert not any(os.get_inheritable(fd) for fd in fds)
        os.write(fds[1], b"!")
        assert os.read(reading, 1) == b"!"
        for fd in fds:
            os.close(fd)
    finally:
        ours.close()
        theirs.close()
        os.close(reading)
        os.close(writing)


def test_descriptors_that_this_process_may_not_have_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = packets.pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    packets.send(ours, b"x", [0, 0, 0])
    highest = os.dup(0)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        received = packets.receive(theirs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        ours.close()
        theirs.close()
    assert received is not None
    assert (received[0], received[2]) == (b"x", False)
    for fd in received[1]:
        os.close(fd)


def test_listener_is_this_users_alone_and_knows_who_comes(short_path: Path) -> None:
    path = str(short_path / "s")
    listener = packets.listen(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with pytest.raises(BlockingIOError):
        packets.accept(listener)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(path)
    server = packets.accept(listener)
    assert packets.peer(server) == (os.getpid(), os.getuid(), os.getgid())
    client.close()
    assert packets.receive(server) is None
    server.close()
    listener.close()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="in use"):
        packets.listen(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("change", ["write", "make", "remove", "rename"])
def test_watch_tells_of_changes_since_it_was_made(tmp_path: Path, change: str) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    file = folder / "file"
    file.touch()
    (other / "moved").touch()
    with Watch([folder]) as watch:
        match change:
            case "write":
                file.write_text("x")
            case "make":
                (folder / "new").touch()
            case "remove":
                file.unlink()
            case _:
                (other / "moved").rename(folder / "moved")
        began = time.monotonic()
        watch.wait(stretched(20))
        assert time.monotonic() - began < stretched(10)
        began = time.monotonic()
        watch.wait(0.05)  # it was told: there is nothing new
        assert time.monotonic() - began >= 0.04
        assert not os.get_inheritable(watch._fd)
    watch.close()


def test_watch_gives_its_descriptor_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch = Watch([tmp_path])
    assert len(os.listdir("/proc/self/fd")) == before + 1
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before
    watch.close()


def test_proxies_that_are_believed() -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "::1", "192.168.1.1/24"])
    for peer in ("10.1.2.3", "::1", "192.168.1.77", "::ffff:10.1.2.3"):
        assert proxies.trusts(peer)
    for peer in ("11.0.0.1", "::2", "192.168.2.1", "unix", ""):
        assert not proxies.trusts(peer)
    assert proxies.client("9.9.9.9", "1.1.1.1") == "9.9.9.9"
    assert proxies.client("10.0.0.1", "") == "10.0.0.1"
    assert proxies.client("10.0.0.1", "1.1.1.1") == "1.1.1.1"
    assert proxies.client("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2") == "1.1.1.1"
    assert proxies.client("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"
    assert proxies.client("10.0.0.1", "1.1.1.1, made up, 10.0.0.2") == "10.0.0.2"
    assert proxies.client("10.0.0.1", " , 1.1.1.1 ,") == "1.1.1.1"
    assert not TrustedProxies().trusts("127.0.0.1")
    with pytest.raises(SettingsError, match="'nowhere'"):
        TrustedProxies(["nowhere"])
    assert str(parse_address("::ffff:1.2.3.4")) == "1.2.3.4"
    assert parse_address("x") is None


@pytest.mark.parametrize(
    ("host", "exempt"),
    [
        ("a.example", True), ("b.a.example", True), ("xa.example", False), ("other", True), ("x.other", True),
        ("star.test", True), ("x.star.test", True), ("none", False), ("localhost", True),
    ],
)  # fmt: skip
def test_hosts_that_go_without_a_proxy(host: str, exempt: bool) -> None:
    assert is_exempt(host, "A.example, .other,*.star.test,,localhost") is exempt
    assert is_exempt(host, "*")
    assert not is_exempt(host, "")
    assert not is_exempt(host, " , ")


def test_sockets_that_are_noted_can_be_ended() -> None:
    ours, theirs = socket.socketpair()

    class Plain:
        def connect(self) -> None:
            self.sock = ours

    class Pool:
        ConnectionCls = Plain

    sockets = OpenSockets()
    noting = sockets.noting(Pool)
    assert (noting.__name__, issubclass(noting, Pool)) == ("Pool", True)
    noting.ConnectionCls().connect()
    sockets.shut_down()
    with ours, theirs:
        assert theirs.recv(1) == b""
    sockets.shut_down()  # of one that is closed: nothing


def test_reason_is_the_innermost_that_says_something() -> None:
    outer = ValueError("HTTPConnection(host='x'): Failed: name unknown")
    assert reason(outer) == "name unknown"
    outer.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert reason(outer) == "Connection refused"
    assert reason(KeyError()) == "KeyError"


def test_descendants_are_found_and_killed() -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "from core import processes\n"
        "processes.adopt_orphans()\n"
        "subprocess.Popen(['sh', '-c', 'sleep 600 & sleep 600 & wait'])\n"
        "while len(processes.descendants(os.getpid())) < 3: time.sleep(0.01)\n"
        "print(processes.kill_descendants(60.0), processes.descendants(os.getpid()))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=stretched(60)
    )
    assert said.stdout == "[] []\n"


def test_process_ends_with_its_parent() -> None:
    script = (
        "import os, time\n"
        "from core import processes\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    processes.end_with_parent(os.getppid())\n"
        "    os.write(writing, b'.')\n"
        "    time.sleep(600)\n"
        "os.read(reading, 1)\n"
        "children = processes.descendants(os.getpid())\n"
        "print(children[0], flush=True)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=stretched(60)
    )
    eventually(lambda: not Path(f"/proc/{said.stdout.strip()}/exe").exists())


def test_process_whose_parent_died_already_ends_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        processes.end_with_parent(1 << 22)  # nobody's number
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_tables_in_markdown() -> None:
    assert markdown.table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"


@pytest.mark.parametrize(
    ("soft", "hard", "says"),
    [
        (256, 512, "allow more open files than 512: LimitNOFILE="),
        (1024, 1024, "allow more open files than 1024: LimitNOFILE="),
        (256, 4096, "allow more open files than 256: ulimit -n 4096"),
        (256, 1024, "allow more open files than 256: ulimit -n 1024"),
        (4000, 100_000, "allow more open files than 4000: ulimit -n 8000"),
        (256, resource.RLIM_INFINITY, "allow more open files than 256: ulimit -n 4096"),
        (1023, 1024, "allow more open files than 1023: ulimit -n 1024"),
    ],
)
def test_how_more_files_may_be_open(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, says: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    assert openfiles.how_to_allow_more().startswith(says)
    assert openfiles.hint_if_out_of_files(OSError(24, "x")) == openfiles.how_to_allow_more()
    assert openfiles.hint_if_out_of_files(OSError(2, "x")) is None


def test_owners_have_names_and_root_gives_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owners.user_name(0) == "root"
    assert owners.user_name(3_999_999) == "3999999"
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_named: given.append((path, uid, gid)))
    folder = tmp_path / "folder"
    folder.mkdir()
    mine = os.stat(folder)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result([0o755, 1, 2, 3, 7, 8, 0, 0, 0, 0]))
    owners.give(folder, tmp_path / "a", tmp_path / "b")
    assert given == [(tmp_path / "a", 7, 8), (tmp_path / "b", 7, 8)]
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    owners.give(folder, tmp_path / "a")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result([0o755, 1, 2, 3, 0, 0, 0, 0, 0, 0]))
    owners.give(folder, tmp_path / "a")
    assert len(given) == 2
    assert mine.st_uid == os.getuid()


def test_root_on_an_overlay_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert filesystems.kind_of("/proc") == "proc"
    assert filesystems.why_unfit(str(tmp_path / "not" / "yet")) == ""
    filesystems.require_fit(str(tmp_path))
    monkeypatch.setattr(filesystems, "kind_of", lambda path: "overlay" if path == str(tmp_path) else "ext4")
    wanted = f"{tmp_path}/not/yet"
    assert filesystems.why_unfit(wanted) == f"{wanted} is on overlayfs, on which no step can have its files"
    with pytest.raises(SettingsError) as refused:
        filesystems.require_fit(wanted)
    assert f"instead of {wanted}" in str(refused.value.hint)


def test_release_is_told_with_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        done = subprocess.run(
            ["git", *identity, "-C", str(tmp_path), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert release._of_checkout(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "file").touch()
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "v9")
    short = git("rev-parse", "HEAD")[:12]
    assert release._of_checkout(tmp_path) == short
    assert release._of_checkout(tmp_path / "core") == ""  # a repository further up is another's
    (tmp_path / "core" / "file").write_text("changed")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert release._of_checkout(tmp_path) == f"{short}-dirty"
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setattr(release, "__file__", str(tmp_path / "core" / "release.py"))
    assert release.described() == f"{release.VERSION}, commit {short}-dirty"
    (tmp_path / "core" / "commit.txt").write_text("0123456789ab\n")
    assert release.commit() == "0123456789ab"
    monkeypatch.setattr(release, "commit", lambda: "")
    assert release.described() == release.VERSION


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("1k", 1024), ("1.5m", 3 << 19), ("2G", 2 << 30), ("7b", 7)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
