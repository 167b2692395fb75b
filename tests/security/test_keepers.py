"""Attacks on keepers: from within a container whose root is hostile, and by other users of the host."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from containers.capabilities import ALL_CAPABILITIES
from containers.errors import ContainerError, NamespaceError
from tests.containers.conftest import busybox_layer as busybox_layer
from tests.containers.keeper.conftest import home as home
from tests.containers.keeper.home import Box, Home
from tests.toolkit.bounds import eventually, stretched

_EVERYTHING = {"capabilities": sorted(ALL_CAPABILITIES), "filtered": False}


def _hostile(home: Home, script: str) -> Box:
    """A container whose root has all capabilities, in its own namespaces, and has prepared an attack."""
    box = home.create("sh", "-c", f"{script}; echo prepared; sleep 1000", process=_EVERYTHING)
    box.start()
    eventually(lambda: b"prepared" in box.output(), why=str(box.lines()))
    return box


def test_nobody_in_the_container_looks_into_a_process_that_joins(home: Home) -> None:
    spy = """
    while :; do
      for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in */busybox|'') ;; *) echo "exe $(readlink $p/exe)" >> /seen;; esac
        case $(cat $p/environ 2>/dev/null | tr '\\0' ' ') in *SHIPLAP*|*VIRTUAL_ENV*) echo environ >> /seen;; esac
        case $(readlink $p/cwd) in /|/proc*|'') ;; *) echo "cwd $(readlink $p/cwd)" >> /seen;; esac
        case $(readlink $p/fd/9) in ''|*pipe*) ;; *) echo "fd $(readlink $p/fd/9)" >> /seen;; esac
      done
    done
    """
    box = _hostile(home, f"({spy}) & touch /seen")
    for _ in range(30):
        assert box.execute("true")[0] == 0
    assert (box.folder / "upper" / "fs" / "seen").read_text() == ""


def test_a_terminal_that_is_none_is_refused_and_holds_nobody_up(home: Home) -> None:
    script = "mkfifo /trap && touch /x && mount -o bind /trap /dev/pts/ptmx"
    box = _hostile(home, script)
    ours, theirs = socket.socketpair()
    with ours, theirs, box.keeper() as keeper, pytest.raises(ContainerError) as caught:
        keeper.ask("exec", {"args": ["sh"], "terminal": True}, [theirs.fileno()], timeout_s=stretched(30))
    assert isinstance(caught.value, NamespaceError) or "ptmx" in str(caught.value)
    assert box.execute("echo", "fine") == (0, b"fine\n")


def test_a_proc_of_the_containers_making_is_not_believed(home: Home) -> None:
    box = _hostile(
        home, "mkdir -p /p/self/fd && mount -t tmpfs none /proc && mkdir -p /proc/self/fd && ln -s /etc /proc/self/fd/0"
    )
    assert box.execute("echo", "fine") == (0, b"fine\n")
    assert box.ask("stats")["pids"] >= 1


def test_modules_and_libraries_of_the_container_are_not_loaded_on_the_way_in(home: Home) -> None:
    """Files lie where the keeper's interpreter has its own: whoever imports in there runs them as this root."""
    box = home.create("sleep", "1000")
    fs = box.folder / "upper" / "fs"
    checkout = Path(__file__).resolve().parents[2]
    evil = "open('/loaded', 'w').close()\n"
    for place in (checkout / "containers" / "users.py", Path(os.__file__).parent / "encodings" / "idna.py"):
        (fs / place.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        (fs / place.relative_to("/")).write_text(evil)
    (fs / Path(sys.executable).relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
    box.start()
    assert box.execute("id", user="app")[0] == 0
    with pytest.raises(ContainerError):
        box.execute("id", user="nobody-of-that-name")
    assert not (fs / "loaded").exists()


def test_account_files_that_never_end_do_not_hold_up_an_exec(home: Home) -> None:
    box = _hostile(home, "rm -f /etc/passwd /etc/group; mkfifo /etc/passwd; ln -s /dev/zero /etc/group")
    assert box.execute("echo", "fine", user="1000:1000") == (0, b"fine\n")


def test_a_log_of_hostile_bytes_is_whole_lines(home: Home) -> None:
    box = home.create("sh", "-c", "head -c 300000 /dev/urandom; printf '\\377\\n\\0\\n\"}\\n'; exit 0")
    assert box.run() == 0
    assert all(set(line) == {"log", "stream", "time"} for line in box.lines())
    assert box.output().endswith(b'\xff\n\0\n"}\n')


def test_another_user_of_the_host_gets_no_word_from_a_keeper(home: Home) -> None:
    """Also where the directory were open to all: the keeper looks at who it is."""
    box = home.create("sleep", "1000")
    box.start()
    path = home.run / "k" / f"{box.identity[:16]}.sock"
    for place in (home.run.parent, home.run, home.run / "k"):
        place.chmod(0o755)
    path.chmod(0o777)
    (home.run / "nursery.sock").chmod(0o777)
    for place in (path, home.run / "nursery.sock"):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setresuid(12345, 12345, 12345)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(20 / 5)
                sock.connect(str(place))
                os.write(writing, b"answer:" + sock.recv(1000))
            os._exit(0)
        os.close(writing)
        assert os.read(reading, 1000) == b"answer:"
        os.close(reading)
        os.waitpid(pid, 0)


def test_a_fork_bomb_stays_within_its_limit_and_can_be_stopped(home: Home) -> None:
    bomb = "(while :; do sleep 1000 & done) 2>/dev/null & exec sleep 1000"
    box = home.create("sh", "-c", bomb, limits={"pids": 60})
    box.start()
    eventually(lambda: box.ask("stats")["pids"] > 40)
    assert box.ask("stats")["pids"] <= 60
    box.stop(timeout_s=0)
    assert box.state()["exit_code"] == 137


def test_memory_that_runs_out_takes_the_container_and_not_the_keeper(home: Home) -> None:
    box = home.create(
        "sh", "-c", "x=a; while :; do x=$x$x; done", limits={"memory_bytes": 16 << 20, "memory_swap_bytes": 16 << 20}
    )
    with box.keeper() as keeper, box.keeper() as waiter:
        keeper.ask("start")
        assert waiter.ask("wait", {"condition": "next-exit"}, timeout_s=stretched(60))[0]["exit_code"] in (137, 2)
    assert box.state()["oom"] is True
