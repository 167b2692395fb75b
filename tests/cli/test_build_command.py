"""``shiplap build``, as a user runs it: what it prints where, exit codes, files, signals."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context whose one image differs from those of other tests."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "name").write_text(str(tmp_path))
    (directory / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nCOPY name /name\nRUN echo to-stdout; echo to-stderr >&2; cat /name > /copy\n"
    )
    return directory


def test_progress_goes_to_standard_error_and_tells_each_step(base_store: Shiplap, context: Path) -> None:
    result = base_store("build", "--progress", "plain", "-t", "cli-plain", context)
    assert result.stdout == ""
    log = result.stderr
    assert re.search(r"^#3 \[3/3\] RUN echo to-stdout", log, re.MULTILINE)
    assert re.search(r"^#3 \d+\.\d{3} to-stdout$", log, re.MULTILINE)
    assert re.search(r"^#3 \d+\.\d{3} to-stderr$", log, re.MULTILINE)
    assert re.search(r"^#3 DONE \d+\.\ds", log, re.MULTILINE)
    assert "naming to docker.io/library/cli-plain:latest" in log
    assert "2 steps: 2 executed, 0 cached" in log

    again = base_store("build", "--progress", "plain", "-t", "cli-plain", context).stderr
    assert "#3 CACHED" in again
    assert "2 steps: 0 executed, 2 cached" in again


def test_quiet_prints_just_the_id(base_store: Shiplap, context: Path) -> None:
    result = base_store("build", "-q", context)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", result.stdout)
    assert result.stderr == ""


def test_json_progress_is_json_to_its_last_line(base_store: Shiplap, context: Path) -> None:
    lines = [json.loads(line) for line in base_store("build", "--progress", "json", context).stderr.splitlines()]
    assert lines[0]["event"] == "plan"
    assert lines[-1]["event"] == "result"
    assert lines[-1]["shiplap.build"]["executed"] == 2
    outcomes = {line["id"]: line["outcome"] for line in lines if line["event"] == "finish"}
    assert outcomes[2] == "done"


def test_json_progress_of_a_failure_ends_with_the_error(base_store: Shiplap, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN exit 7\n")
    result = base_store("build", "--progress", "json", context, check=False)
    assert result.returncode == 1
    last = json.loads(result.stderr.splitlines()[-1])
    assert last["event"] == "error"
    assert "7" in last["message"]
    assert ">>> RUN exit 7" in last["text"]


def test_failed_step_in_quiet_mode_shows_the_end_of_its_output(base_store: Shiplap, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN seq 1000; printf 'the \\033[2Jend'; exit 7\n")
    result = base_store("build", "-q", context, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "\n1000\nthe end\n------\nerror: Dockerfile:2:1: " in result.stderr
    assert "\n10\n" not in result.stderr


def test_files_that_tell_of_the_result(base_store: Shiplap, context: Path, tmp_path: Path) -> None:
    iid, metadata = tmp_path / "iid", tmp_path / "metadata"
    base_store("build", "-t", "cli-a", "-t", "cli-b:2", "--iidfile", iid, "--metadata-file", metadata, context)
    document = json.loads(metadata.read_text())
    (image,) = base_store.json("image", "inspect", "cli-b:2")
    assert iid.read_text() == image["Id"] == document["containerimage.config.digest"]
    assert document["containerimage.digest"] == image["Digest"]
    assert document["image.name"] == "docker.io/library/cli-a:latest,docker.io/library/cli-b:2"
    assert document["shiplap.build"]["executed"] == 2
    assert [step["line"] for step in document["shiplap.build"]["steps"]][:3] == [1, 2, 3]


def test_failed_build_leaves_no_stale_files(base_store: Shiplap, context: Path, tmp_path: Path) -> None:
    iid = tmp_path / "iid"
    iid.write_text("sha256:old")
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN false\n")
    assert base_store("build", "--iidfile", iid, context, check=False).returncode == 1
    assert not iid.exists()


def test_arguments_and_labels(base_store: Shiplap, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nARG A\nARG B\nENV SEEN=$A-$B\n")
    arguments = ("--build-arg", "A=1", "--build-arg", "B", "--label", "l=v", "--label", "bare")
    base_store("build", "-t", "cli-args", *arguments, context, env={"B": "environment"})
    (image,) = base_store.json("image", "inspect", "cli-args")
    assert "SEEN=1-environment" in image["Config"]["Env"]
    assert image["Config"]["Labels"] == {"l": "v", "bare": ""}


def test_dockerfile_from_standard_input(base_store: Shiplap, context: Path) -> None:
    stdin = f"FROM {BUSYBOX_NAME}\nCOPY name /from-stdin\n"
    base_store("build", "-t", "cli-stdin", "-f", "-", context, stdin=stdin)
    assert base_store("run", "cli-stdin", "cat", "/from-stdin").stdout == (context / "name").read_text()
    base_store("build", "-t", "cli-bare", "-", stdin=f"FROM {BUSYBOX_NAME}\nENV A=1\n")


def test_context_from_standard_input(base_store: Shiplap, context: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(context, ".")
    direct = base_store("build", "-q", context).stdout
    piped = base_store("build", "-q", "-", stdin=buffer.getvalue()).stdout
    assert piped == direct


def test_output_to_standard_output_is_a_tar(base_store: Shiplap, context: Path) -> None:
    process = base_store.start("build", "-q", "-o", "-", context, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
        names = {member.name.removeprefix("./") for member in tar}
    process.stdout.close()
    assert process.wait(stretched(60)) == 0
    assert {"name", "copy", "bin/sh"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-t", "Upper"), "lower case"),
        (("-t", "app@sha256:" + "0" * 64), "no digest"),
        (("-o", "type=zip,dest=x"), "unknown type 'zip'"),
        (("-o", "-", "-o", "type=oci,dest=-"), "only one output"),
        (("--build-arg", "=x"), "has no name"),
        (("--add-host", "db"), "--add-host"),
        (("--platform", "a/b/c/d"), "invalid platform"),
        (("--target", "nothing"), "nothing"),
        (("-f", "/nonexistent/Dockerfile"), "/nonexistent/Dockerfile"),
    ],
)
def test_wrong_values_are_explained(
    base_store: Shiplap, context: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = base_store("build", *arguments, context, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_cancels_the_build(base_store: Shiplap, context: Path, number: int, code: int) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo begun; sleep 100\n")
    process = base_store.start("build", "--progress", "plain", context, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b" begun" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    rest = process.stderr.read().decode()
    assert process.wait(stretched(60)) == code
    process.stderr.close()
    assert "#2 CANCELED" in rest
    assert "Traceback" not in rest


def test_nobody_reading_the_progress_does_not_fail_the_build(base_store: Shiplap, context: Path) -> None:
    process = base_store.start(
        "build", "--progress", "plain", "-t", "cli-unread", context, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stderr is not None
    process.stderr.close()
    process.wait(stretched(60))
    assert base_store.json("image", "inspect", "cli-unread")


def test_display_on_a_terminal_is_chosen_by_force(base_store: Shiplap, context: Path) -> None:
    log = base_store("build", "--progress", "tty", context).stderr
    assert "[+] Building" in log
    assert "(4/4) FINISHED" in log
    assert " => [3/3] RUN echo to-stdout" in log
