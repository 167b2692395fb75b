"""``shiplap build history``: what is kept of builds on this machine, for whom, and how much of it."""

from __future__ import annotations

import json
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from cli.building import recording
from cli.building.pastbuilds import PastBuild, past_builds
from cli.building.recording import Recorder, remove_old
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.shiplap import Shiplap

_SECRET = 'correct horse\'s "battery"'


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "app"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    (place / "file").write_text("content")
    return place


def listed(shiplap: Shiplap, form: str = "{{.Status}} {{.Name}} {{.Steps}} {{.Cached}}") -> list[str]:
    return shiplap("build", "history", "ls", "--format", form).stdout.splitlines()


def test_builds_are_listed_shown_and_forgotten(shiplap: Shiplap, context: Path) -> None:
    shiplap("build", "-t", "app:1", "--build-arg", "TOKEN=value-of-token", context)
    shiplap("build", "-t", "app:1", "--build-arg", "TOKEN=value-of-token", context)
    (context / "bad").write_text("FROM scratch\nCOPY nothing /\n")
    failed = shiplap("build", "-f", context / "bad", "--target", "x", context, check=False)
    shiplap("build", "-f", context / "bad", context, check=False)
    assert listed(shiplap)[0].startswith("Error app/bad ")
    assert listed(shiplap)[1:] == ["Error app/bad (x)  ", "Completed app 1 100%", "Completed app 1 0%"]
    assert (
        shiplap("build", "history", "ls", "-q", "--state", "completed", "-n", "1").stdout
        == listed(shiplap, "{{.Ref}}")[2] + "\n"
    )
    shown = shiplap("build", "history", "inspect", "^2").stdout
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith(("Name:", "Tags:", "Arguments:"))] == [
        "app", "TOKEN", "docker.io/library/app:1",
    ]  # fmt: skip
    assert shiplap("build", "history", "inspect", "-f", "{{.error}}", "^1").stdout == failed.stderr.strip() + "\n"
    first = listed(shiplap, "{{.Ref}}")[3]
    assert "#1 DONE" in shiplap("build", "history", "logs", first).stdout
    assert "#1 CACHED" in shiplap("build", "history", "logs", "^2").stdout
    raw = shiplap("build", "history", "logs", "--progress", "rawjson", first).stdout.splitlines()
    assert {json.loads(line)["event"] for line in raw} == {"plan", "start", "finish", "warning"}
    assert "value-of-token" not in "".join(path.read_text() for path in (shiplap.root / "history").iterdir())
    shiplap("build", "history", "rm", first)
    assert len(listed(shiplap)) == 3
    wrong = shiplap("build", "history", "logs", first, check=False)
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (1, f"error: {first!r} is no build here")
    shiplap("build", "history", "rm", "--all")
    assert list((shiplap.root / "history").iterdir()) == []
    assert shiplap("image", "ls", "-q").stdout, "the image stays"


def test_reference_of_the_metadata_names_the_build(shiplap: Shiplap, context: Path, tmp_path: Path) -> None:
    shiplap("build", "--metadata-file", tmp_path / "metadata", context)
    reference = json.loads((tmp_path / "metadata").read_text())["buildx.build.ref"]
    assert shiplap("build", "history", "inspect", "-f", "{{.name}}", reference).stdout == "app\n"


def test_secrets_are_not_kept_and_nobody_else_may_look(shiplap: Shiplap, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM scratch\nLABEL {json.dumps('a ' + _SECRET)}=1\nCOPY ['x {_SECRET}', '/']\n"
    )
    environment = {"S": _SECRET, "SHORT": "ab"}
    given = ("--secret", "id=s,env=S", "--secret", "id=t,env=SHORT")
    assert shiplap("build", *given, context, env=environment, check=False).returncode == 1
    shiplap("build", "https://me:hunter22@127.0.0.1:1/x.tar?token=hunter33", env=environment, check=False)
    history = shiplap.root / "history"
    kept = "".join(path.read_text() for path in history.iterdir())
    assert "horse" not in kept
    assert "hunter" not in kept
    assert stat.S_IMODE(history.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in history.iterdir()} == {0o600}


def test_values_of_arguments_are_not_kept_where_they_are_why_a_step_ran(shiplap: Shiplap, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nARG TOKEN\nCOPY file /file-$TOKEN\n")
    for value in ("one", "another"):
        shiplap("build", "--build-arg", f"TOKEN=value-{value}", context)
    assert "destination changed" in shiplap("build", "history", "logs").stdout
    assert "value-" not in "".join(path.read_text() for path in (shiplap.root / "history").iterdir())


def test_build_that_runs_is_shown_and_one_that_was_killed(shiplap: Shiplap, context: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (context / "Dockerfile").write_text(f"FROM 127.0.0.1:{mute.getsockname()[1]}/x\n")
        process = shiplap.start("build", context)
        try:
            eventually(
                lambda: listed(shiplap, "{{.Status}}") == ["Running"], why="it is listed", timeout_s=stretched(60)
            )
            refused = shiplap("build", "history", "rm", "^0", check=False)
            assert (refused.returncode, "is running" in refused.stderr) == (1, True)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    eventually(lambda: listed(shiplap, "{{.Status}}") == ["Lost"], why="its lock is free", timeout_s=stretched(60))
    shiplap("build", "history", "logs")
    shiplap("build", "history", "rm", "--all")
    assert listed(shiplap) == []


@pytest.mark.parametrize("damage", ["file", "rubbish"])
def test_build_does_not_need_its_history(shiplap: Shiplap, context: Path, damage: str) -> None:
    shiplap("build", context)
    history = shiplap.root / "history"
    if damage == "rubbish":
        for name in ("1-a.json", "2-b.log", "3-c.json", "nonsense", "4-d.json"):
            (history / name).write_text({"1-a.json": "{", "2-b.log": "\0\n{}\n", "3-c.json": "[1]"}.get(name, "7"))
    else:
        for path in history.iterdir():
            path.unlink()
        history.rmdir()
        history.write_text("in the way")
    shiplap("build", "--no-cache", context)
    if damage == "rubbish":
        assert listed(shiplap, "{{.Status}}") == ["Completed", "Completed"]


def recorder(root: Path) -> Recorder:
    return Recorder(root, {"name": "app"}, time.time())


def only(root: Path) -> PastBuild:
    (build,) = past_builds(root)
    return build


def test_long_output_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_MOST_LOG", 10_000)
    monkeypatch.setattr(recording, "_TAIL", 2_000)
    build = recorder(tmp_path)
    build.open_log()
    build.emit(BuildPlanned((StepInfo(0, "RUN yes"),)))
    build.emit(StepStarted(0, 1.0))
    for number in range(5000):
        build.emit(StepOutput(0, 1, f"line {number}\n".encode(), 1.0))
    build.emit(StepFinished(0, "done", 1.0, 2.0))
    build.end("completed", [], 1.0)
    assert only(tmp_path).log.stat().st_size < 50_000
    events = list(only(tmp_path).events())
    output = [event.data for event in events if isinstance(event, StepOutput)]
    assert output[0] == b"line 0\n"
    assert output[-1] == b"line 4999\n"
    (left_out,) = [event for event in events if isinstance(event, int)]
    assert left_out + sum(map(len, output)) == sum(len(f"line {number}\n") for number in range(5000))


def test_old_builds_go_and_one_that_runs_stays(tmp_path: Path) -> None:
    running = Recorder(tmp_path, {}, 1.0)
    running.open_log()
    for number in range(5):
        Recorder(tmp_path, {"name": "x" * 1000}, 2.0 + number).end("completed", [], 0.1)
    directory = tmp_path / recording.DIRECTORY
    remove_old(directory, most=3)
    assert [round(build.record["at"]) for build in past_builds(tmp_path)] == [6, 5, 4, 1]
    remove_old(directory, most_bytes=1500)
    assert [round(build.record["at"]) for build in past_builds(tmp_path)] == [6, 1]
    running.end("completed", [], 1.0)
    remove_old(directory, most=1)
    assert [round(build.record["at"]) for build in past_builds(tmp_path)] == [6]


def test_two_builds_at_the_same_moment_are_two(tmp_path: Path) -> None:
    for _ in range(2):
        Recorder(tmp_path, {}, 5.0).end("completed", [], 0.1)
    assert len(past_builds(tmp_path)) == 2
