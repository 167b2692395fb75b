"""Containers live with a keeper each: start to removal, policies' words, states and exit codes as docker's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from containers.errors import NotExecutedError
from containers.keeper import protocol
from core import packets
from engine import lifecycle, locking, state
from engine.engine import Engine
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError, NameInUseError, UnchangedError
from tests.toolkit.bounds import eventually, stretched


def create(engine: Engine, name: str, *command: str, host: dict[str, Any] | None = None, **body: Any) -> str:
    asked = {"NetworkMode": "none", **(host or {})}
    return engine.create(name, {"Image": "bb", "Cmd": list(command), "HostConfig": asked, **body}).id


def output(engine: Engine, ref: str) -> bytes:
    return b"".join(entry.data for entry in engine.logs(ref))


def test_a_container_is_started_looked_at_stopped_and_removed(living: Engine) -> None:
    create(living, "one", "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
    living.start("one")
    with pytest.raises(UnchangedError):
        living.start("one")
    (listed,) = living.containers()
    assert (listed["State"], listed["Names"]) == ("running", ["/one"])
    assert listed["Status"].startswith("Up ")
    state = living.inspect("one")["State"]
    assert state["Running"]
    assert os.readlink(f"/proc/{state['Pid']}/exe").endswith("busybox")
    eventually(lambda: output(living, "one") == b"out\nerr\n")
    living.stop("one", timeout_s=0)
    with pytest.raises(UnchangedError):
        living.stop("one")
    state = living.inspect("one")["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    (listed,) = living.containers(every=True)
    assert listed["Status"].startswith("Exited (137) ")
    assert living.containers() == []
    living.remove("one")
    with pytest.raises(ContainerNotFoundError, match="No such container: one"):
        living.inspect("one")


def test_what_a_container_wrote_is_there_when_it_is_started_again(living: Engine) -> None:
    create(living, "one", "sh", "-c", "echo again >> /file; wc -l < /file")
    for _ in range(2):
        living.start("one")
        assert living.wait("one") == 0
    assert output(living, "one") == b"1\n2\n"
    assert [tuple(change) for change in living.changes("one")] == [("/file", "A")]


def test_changes_are_told_as_docker_tells_them(living: Engine) -> None:
    create(living, "one", "sh", "-c", "rm /bin/cat; mkdir /new; echo > /new/file; chmod 700 /root")
    living.start("one")
    living.wait("one")
    found = {change.path: change.kind for change in living.changes("one")}
    assert found["/bin"] == "C"
    assert found["/bin/cat"] == "D"
    assert found["/new"] == found["/new/file"] == "A"
    assert found["/root"] == "C"


def test_exit_codes_of_what_cannot_be_executed(living: Engine) -> None:
    for name, command, code in (("none", "/no/where", 127), ("dir", "/etc", 126)):
        create(living, name, command)
        with pytest.raises(NotExecutedError) as refused:
            living.start(name)
        assert refused.value.code == code
        state = living.inspect(name)["State"]
        assert (state["Status"], state["ExitCode"]) == ("created", code)
        assert state["Error"]


def test_conflicts_in_dockers_words(living: Engine) -> None:
    identity = create(living, "one", "sleep", "1000")
    for act, words in (
        (living.kill, f"cannot kill container: one: container {identity} is not running"),
        (living.pause, f"container {identity} is not running"),
        (living.unpause, f"Container {identity} is not paused"),
        (living.top, f"container {identity} is not running"),
    ):
        with pytest.raises(ConflictError) as refused:
            act("one")
        assert refused.value.message == words
    living.start("one")
    with pytest.raises(ConflictError) as refused:
        living.remove("one")
    running = "container is running: stop the container before removing or force remove"
    assert refused.value.message == f'cannot remove container "/one": {running}'
    with pytest.raises(InvalidRequestError, match="cannot kill container: one: invalid signal: FOO"):
        living.kill("one", "FOO")
    living.pause("one")
    assert living.containers()[0]["Status"].endswith("(Paused)")
    for act, words in (
        (living.pause, f"Container {identity} is already paused"),
        (living.start, "cannot start a paused container, try unpause instead"),
        (living.remove, 'cannot remove container "/one": container is paused and must be unpaused first'),
    ):
        with pytest.raises(ConflictError) as refused:
            act("one")
        assert refused.value.message == words
    living.unpause("one")
    living.remove("one", force=True)
    assert living.containers(every=True) == []


def test_one_that_comes_up_while_it_is_removed_by_force_is_killed(
    living: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start whose command was killed goes on at the keeper."""
    create(living, "one", "sleep", "1000")
    living.start("one")
    seen = state.read
    late = iter([seen(living.places.root)._replace(status="created")])
    monkeypatch.setattr("engine.lifecycle.read", lambda directory: next(late, None) or seen(directory))
    living.remove("one", force=True)
    assert living.containers(every=True) == []


def test_a_container_with_rm_removes_itself_and_its_anonymous_volumes(living: Engine) -> None:
    identity = create(living, "one", "true", host={"AutoRemove": True, "Binds": ["kept:/kept"]}, Volumes={"/data": {}})
    assert len(living.volumes.listed()["Volumes"]) == 2
    living.start("one")
    assert living.wait("one", "removed") == 0
    assert living.containers(every=True) == []
    assert not living.places.container(identity).exists()
    assert [volume["Name"] for volume in living.volumes.listed()["Volumes"]] == ["kept"]
    living.volumes.remove("kept")


def test_a_rename_moves_the_name(living: Engine) -> None:
    create(living, "one", "sleep", "1000")
    create(living, "two", "true")
    living.start("one")
    with pytest.raises(NameInUseError):
        living.rename("one", "two")
    with pytest.raises(InvalidRequestError, match="same name as its current name"):
        living.rename("one", "one")
    living.rename("one", "three")
    assert living.inspect("three")["Name"] == "/three"
    create(living, "one", "true")
    living.kill("three")
    living.wait("three")
    died = [event for event in living.events(since="1", follow=False) if event["Action"] == "die"]
    assert died[-1]["Actor"]["Attributes"]["name"] == "three"


def test_limits_and_policy_change_while_it_runs(living: Engine) -> None:
    create(living, "one", "sleep", "1000")
    living.start("one")
    assert living.update("one", {"Memory": 64 << 20, "RestartPolicy": {"Name": "always"}}) == []
    host = living.inspect("one")["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (64 << 20, "always")
    assert living.stats("one")[0]["memory_stats"]["limit"] == 64 << 20
    with pytest.raises(InvalidRequestError, match="Minimum memory limit"):
        living.update("one", {"Memory": 1})


def test_looking_neither_starts_nor_writes_anything_for_a_container_whose_keeper_was_killed(living: Engine) -> None:
    identity = create(living, "one", "sleep", "1000", host={"RestartPolicy": {"Name": "always"}})
    living.start("one")
    with living.keepers.nursery() as nursery:
        pid = nursery.ask("status")[0]["pid"]
    os.kill(pid, signal.SIGKILL)  # nobody is left who would start it again
    first = living.inspect("one")["State"]["Pid"]
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    before = (living.places.container(identity) / "state.json").read_bytes()
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not locking.is_held(living.places.container(identity)))
    eventually(lambda: not os.path.exists(f"/proc/{first}"))  # its container goes with it
    for _ in range(3):
        (listed,) = living.containers(every=True)
        assert listed["State"] == "exited"
        assert listed["Status"].startswith("Exited (255) ")
    assert living.inspect("one")["State"]["FinishedAt"] > "2020"
    assert (living.places.container(identity) / "state.json").read_bytes() == before
    assert not (living.places.run / "nursery.sock").exists() or living.containers() == []
    living.start("one")
    assert living.inspect("one")["State"]["Running"]


def test_a_start_that_its_policy_was_quicker_with_has_been_done(
    living: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the state and the request, the nursery may have started a container that was killed."""
    create(living, "one", "sleep", "1000")
    living.start("one")
    late = iter([state.State(status="exited")])
    seen = state.read
    monkeypatch.setattr(lifecycle, "read", lambda directory: next(late, None) or seen(directory))
    living.start("one")
    assert living.inspect("one")["State"]["Running"]


def test_two_who_start_at_once_are_both_told_when_it_runs(living: Engine) -> None:
    for number in range(5):
        identity = create(living, f"one{number}", "sleep", "1000")
        with living.keepers.summon(identity) as first, living.keepers.summon(identity) as second:
            for each in (first, second):
                each.ask("state", timeout_s=stretched(30))
            keeper, _uid, _gid = packets.peer(first.socket)
            os.kill(keeper, signal.SIGSTOP)  # so that it finds both requests there
            try:
                for each in (first, second):
                    protocol.send(each.socket, {"verb": "start"})
            finally:
                os.kill(keeper, signal.SIGCONT)
            answers = [each.receive(timeout_s=stretched(30))[0] for each in (first, second)]
        pid = living.inspect(identity)["State"]["Pid"]
        assert [answer["pid"] for answer in answers] == [pid, pid]
        asleep = subprocess.run(["pgrep", "-P", str(keeper), "-x", "sleep"], capture_output=True, text=True, check=True)
        assert asleep.stdout.split() == [str(pid)]


def test_wait_tells_the_next_exit_also_when_it_began_before_the_start(living: Engine) -> None:
    import threading

    create(living, "one", "sh", "-c", "exit 3")
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(living.wait("one", "next-exit")))
    waiting.start()
    eventually(lambda: locking.is_held(living.directory("one")))
    living.start("one")
    eventually(lambda: codes == [3])
    waiting.join()
    assert living.wait("one") == 3


def test_top_and_stats_of_a_running_container(living: Engine) -> None:
    create(living, "one", "sh", "-c", "sleep 1000 & sleep 2000; true")  # so that the shell stays
    living.start("one")
    eventually(lambda: len(living.top("one")["Processes"]) == 3)
    assert living.top("one")["Titles"][1] == "PID"
    titles = living.top("one", "-o pid,comm")
    assert titles["Titles"] == ["PID", "COMMAND"]
    with pytest.raises(InvalidRequestError, match="Couldn't find PID field in ps output"):
        living.top("one", "-o comm")
    first, counted = living.stats("one")
    second, _ = living.stats("one", counted)
    assert first["pids_stats"]["current"] >= 3
    assert second["preread"] == first["read"]
    assert second["precpu_stats"]["system_cpu_usage"] == first["cpu_stats"]["system_cpu_usage"]


def test_following_a_log_has_the_past_and_what_comes_and_ends_with_the_container(living: Engine) -> None:
    create(living, "one", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done; printf 'caf\\351'")
    living.start("one")
    time.sleep(0.2)
    lines = [entry.data for entry in living.logs("one", follow=True)]
    assert lines == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"7\n", b"8\n", b"caf\xe9"]


def test_prune_removes_what_does_not_run(living: Engine) -> None:
    create(living, "up", "sleep", "1000")
    create(living, "labelled", "true", Labels={"keep": "me"})
    gone = create(living, "gone", "true")
    living.start("up")
    removed, freed = living.prune_containers({"label!": ["keep"]})
    assert removed == [gone]
    assert freed >= 0
    with pytest.raises(InvalidRequestError, match="invalid filter 'foo'"):
        living.prune_containers({"foo": ["x"]})
    assert {row["Names"][0] for row in living.containers(every=True)} == {"/up", "/labelled"}


def test_volumes_are_filled_from_the_image_and_shared_between_ranges(living: Engine) -> None:
    for name in ("one", "two"):
        create(living, name, "sh", "-c", "ls /data; stat -c %u /data/mine; echo > /data/mine; chown 7:8 /data/mine",
               host={"Binds": ["shared:/data"]})  # fmt: skip
    living.start("one")
    living.wait("one")
    place = Path(living.volumes.inspect("shared")["Mountpoint"])
    mine = (place / "mine").stat()
    assert (mine.st_uid, mine.st_gid) == (7, 8)  # true owners on disk
    living.start("two")
    living.wait("two")
    assert output(living, "two").endswith(b"mine\n7\n")
    with pytest.raises(ConflictError, match="remove shared: volume is in use - "):
        living.volumes.remove("shared")
    living.remove("one")
    living.remove("two")
    living.volumes.remove("shared")
    assert not place.exists()


def test_a_volume_takes_what_the_image_has_at_its_place(living: Engine) -> None:
    create(living, "one", "sh", "-c", "rm /etc/passwd; ls /etc", host={"Binds": ["etc:/etc"]})
    place = Path(living.volumes.inspect("etc")["Mountpoint"])
    assert (place / "passwd").exists()
    (place / "own").write_text("")
    create(living, "two", "true", host={"Binds": ["etc:/etc", "raw:/bin:nocopy"]})
    assert (place / "own").exists()
    assert list(Path(living.volumes.inspect("raw")["Mountpoint"]).iterdir()) == []
    for name in ("one", "two"):
        living.remove(name)
    assert living.volumes.prune()[0] == []  # both have names
    assert sorted(living.volumes.prune({"all": ["1"]})[0]) == ["etc", "raw"]


def test_binds_and_tmpfs_and_read_only(living: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    create(
        living, "one", "sh", "-c",
        "cat /here/file; echo > /here/file; echo > /tmpfs/z && echo yes; echo > /root/x || echo no",
        host={"Binds": [f"{tmp_path}:/here:ro"], "Tmpfs": {"/tmpfs": "size=1m"}, "ReadonlyRootfs": True},
    )  # fmt: skip
    living.start("one")
    living.wait("one")
    said = output(living, "one")
    assert said.startswith(b"host\n")
    assert b"yes\n" in said
    assert b"no\n" in said  # standard error comes by a pipe of its own, before or after
    assert (tmp_path / "file").read_text() == "host\n"


def test_volumes_from_another_container(living: Engine) -> None:
    create(living, "one", "sh", "-c", "echo it > /data/x", Volumes={"/data": {}})
    create(living, "two", "sh", "-c", "cat /data/x; echo > /data/y", host={"VolumesFrom": ["one:ro"]})
    for name in ("one", "two"):
        living.start(name)
        living.wait(name)
    assert output(living, "two").startswith(b"it\n")
    assert b"Read-only" in output(living, "two")
