"""shiplap build --debug: into the step that failed, as it was when it failed."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from cli.building.debug import read_debug_options
from cli.errors import CommandError
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

FILE = f"""\
FROM {BUSYBOX_NAME}
ARG FLAVOUR=mint
ENV COLOUR=green
RUN mkdir /work && chown 1234 /work
WORKDIR /work
USER 1234
RUN --mount=type=secret,id=token,uid=1234 --mount=type=cache,target=/cache,uid=1234 \\
    echo half > done && echo kept > /cache/file && false
"""

LOOK = "id -u; pwd; cat done; cat /run/secrets/token; cat /cache/file; echo $FLAVOUR $COLOUR; touch more && ls"
SEEN = ["1234", "/work", "half", "s3cr3t-value", "kept", "mint green", "done", "more"]


@pytest.fixture
def project(shiplap: Shiplap, busybox_tar: Path, tmp_path: Path) -> Path:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Dockerfile").write_text(FILE)
    (tmp_path / "token").write_text("s3cr3t-value\n")
    return directory


def options(project: Path) -> tuple[str, ...]:
    return ("build", "--debug", "--progress", "plain", "--secret", f"id=token,src={project.parent}/token")


def test_shell_has_the_steps_files_environment_user_and_mounts(shiplap: Shiplap, project: Path) -> None:
    result = shiplap(*options(project), project, stdin=LOOK + "\n", check=False)
    assert result.returncode == 1
    assert result.stdout.split("\n")[:-1] == SEEN
    assert "did not complete successfully: exit code: 1" in result.stderr
    assert "debug: /bin/sh in the failed step" in result.stderr
    assert "s3cr3t" not in result.stderr


def test_command_can_be_invoked_instead(shiplap: Shiplap, project: Path) -> None:
    result = shiplap(*options(project), "--invoke", LOOK, project, check=False)
    assert (result.returncode, result.stdout.split("\n")[:-1]) == (1, SEEN)


def test_nothing_of_it_stays(shiplap: Shiplap, project: Path) -> None:
    before = {path.name for path in (shiplap.root / "snapshots").iterdir()} if shiplap.root.exists() else set()
    shiplap(*options(project), "--invoke", "echo x > /work/left", project, check=False)
    again = shiplap(*options(project), "--invoke", "ls /work", project, check=False)
    assert again.stdout == "done\n"
    uppers = {path.name for path in (shiplap.root / "snapshots").iterdir()} - before
    assert not [name for name in uppers if (shiplap.root / "snapshots" / name / "fs" / "work" / "done").exists()]


def test_shell_on_a_terminal_is_a_terminal(shiplap: Shiplap, project: Path) -> None:
    user, program = os.openpty()
    process = shiplap.start(*options(project), project, stdin=program, stdout=program, stderr=program)
    os.close(program)
    try:
        read_until(user, b"/work $ ")
        os.write(user, b"tty; echo at-$(pwd)\r")
        assert b"/dev/pts/0" in read_until(user, b"at-/work")
        os.write(user, b"exit\r")
        assert process.wait(timeout=stretched(60)) == 1
    finally:
        process.kill()
        process.wait()
        os.close(user)


def read_until(fd: int, wanted: bytes) -> bytes:
    found = b""
    deadline = time.monotonic() + stretched(60)
    while wanted not in found:
        assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"only {found!r} came"
        found += os.read(fd, 4096)
    return found


def test_step_of_a_stage_that_runs_beside_others_is_entered(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME} AS a\nRUN echo a > /a; false\n"
        f"FROM {BUSYBOX_NAME} AS b\nRUN sleep 30\n"
        f"FROM {BUSYBOX_NAME}\nCOPY --from=a /a /\nCOPY --from=b /etc /b\n"
    )
    result = shiplap("build", "--debug", "--invoke", "cat /a", project, check=False)
    assert (result.returncode, result.stdout) == (1, "a\n")


def test_build_that_succeeds_or_fails_elsewhere_opens_no_shell(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN true\n")
    assert shiplap("build", "--debug", "--invoke", "echo entered", project).stdout == ""
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nCOPY nothing /\n")
    result = shiplap("build", "--debug", "--invoke", "echo entered", project, check=False)
    assert (result.returncode, result.stdout) == (1, "")


@pytest.mark.parametrize(
    ("debug", "invoke", "context", "file"), [(False, "ls", ".", None), (True, "", "-", None), (True, "", ".", "-")]
)
def test_debug_without_a_way_to_speak_to_it_is_an_error(
    debug: bool, invoke: str, context: str, file: str | None
) -> None:
    with pytest.raises(CommandError, match="--debug"):
        read_debug_options(debug, invoke, context=context, file=file)
