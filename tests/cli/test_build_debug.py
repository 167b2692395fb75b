"""shiplap build --debug: into the step that failed, as it was when it failed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.building.debug import read_debug_options
from cli.building.runcommand import quoted
from cli.errors import CommandError
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap
from tests.toolkit.terminals import read_until

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


def printed_command(stderr: str) -> str:
    """What is to be pasted."""
    after = stderr.split("debug: to run the step again, by itself:\n\n    ")
    assert len(after) == 2, stderr
    return after[1].partition("\n\ndebug: ")[0]


def paste(shiplap: Shiplap, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it in a shell, as whoever reads it would."""
    bin_directory = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}", "SHIPLAP_ROOT": str(shiplap.root), **env}
    return subprocess.run(
        ["bash", "-c", command], env=environ, capture_output=True, text=True, check=False, timeout=stretched(60)
    )


def test_step_is_printed_as_a_command_that_does_the_same_when_pasted(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\n"
        'ENV COLOUR="green  grass" QUOTED="it\'s \\$5"\n'
        "ARG SIZE=big\n"
        "RUN mkdir /work && echo kept > /work/before && chown -R 1234 /work\n"
        "WORKDIR /work\nUSER 1234:7\n"
        "RUN --network=none touch left; ls; cat before; pwd; id -u; id -g; hostname; echo $COLOUR $QUOTED $SIZE; \\\n"
        "    cat /etc/hosts | grep db; ls /sys/class/net; ulimit -n; exit 7\n"
    )
    limits = ("--add-host", "db:10.1.2.3", "--ulimit", "nofile=100:200", "--memory", "64m")
    result = shiplap("build", "--debug", "--progress=plain", "--invoke=true", *limits, project, check=False)
    assert result.returncode == 1
    again = paste(shiplap, printed_command(result.stderr))
    printed = re.findall(r"^#\d+ \d+\.\d+ (.*)$", result.stderr, re.MULTILINE)
    assert again.returncode == 7
    seen = again.stdout.splitlines()
    assert seen[:6] == ["before", "left", "kept", "/work", "1234", "7"]
    assert "green grass it's $5 big" in seen
    assert "100" in seen
    assert seen == printed
    assert "not carried over" not in result.stderr
    assert paste(shiplap, printed_command(result.stderr)).stdout == again.stdout  # what it wrote is not there


def test_command_tells_no_secret_and_names_what_it_lacks(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\n"
        "ARG API_TOKEN\nARG WHERE=https://me:pw-123456@host/x\nARG COPIED\nARG WITHIN=/x/tok-abcdef/y\nARG PLAIN=seen\n"
        "WORKDIR /at/$API_TOKEN\n"
        "RUN --mount=type=secret,id=token,env=TOKEN,target=/run/token --mount=type=ssh \\\n"
        "    --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,target=/b \\\n"
        '    echo "<$API_TOKEN $PLAIN>"; false\n'
    )
    arguments = ("--build-arg", "API_TOKEN=tok-abcdef", "--build-arg", "COPIED=a s3cr3t-value b")
    proxy = ("--build-arg", "HTTP_PROXY=http://me:proxy-pw@10.0.0.1:3128")
    result = shiplap(*options(project), "--invoke=true", *arguments, *proxy, project, check=False)
    command = printed_command(result.stderr)
    told = result.stderr[result.stderr.index("debug: to run the step again") :]
    for secret in ("tok-abcdef", "s3cr3t", "pw-123456", "proxy-pw"):
        assert secret not in told
    assert "-e PLAIN=seen" in command
    unset = told.partition("debug: set first, as the values are not shown: ")[2].splitlines()[0].split(", ")
    assert set(unset) == {"API_TOKEN", "WHERE", "COPIED", "WITHIN", "HTTP_PROXY", "http_proxy", "TOKEN"}
    lacking = told.partition("debug: not carried over: ")[2].splitlines()[0].split("; ")
    assert sorted(lacking) == [
        "the SSH agent default at /run/buildkit/ssh_agent.0",
        "the cache /c",
        "the secret token in /run/token and $TOKEN",
        "the tmpfs /t",
        "the working directory, which has a secret in it",
        "what is mounted on /b",
    ]
    assert paste(shiplap, command, API_TOKEN="mine").stdout == "<mine seen>\n"


def test_command_with_a_secret_in_it_is_not_printed(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN --mount=type=secret,id=token echo s3cr3t-value; false\n"
    )
    result = shiplap(*options(project), "--invoke=true", project, check=False)
    command = printed_command(result.stderr)
    assert "s3cr3t" not in command
    assert command.endswith(" /bin/sh")
    assert "not carried over: its command, which has a secret in it; here it is a shell" in result.stderr


def test_files_that_the_command_starts_from_are_an_image_until_images_are_pruned(
    shiplap: Shiplap, project: Path
) -> None:
    first, second = (shiplap(*options(project), "--invoke=true", project, check=False).stderr for _ in range(2))
    assert printed_command(first) == printed_command(second)
    images = [line for line in shiplap("image", "ls").stdout.splitlines() if "<none>" in line]
    assert len(images) == 1
    shiplap("image", "prune", "--force")
    assert "<none>" not in shiplap("image", "ls").stdout


@pytest.mark.parametrize(
    "word",
    ["a b", "it's", "$HOME", "`id`", "line\nline", "\x1b[31m", "\x1b1", "\\\x07'", "caf\u00e9", "\udcff\x01", ""],
)
def test_words_reach_the_program_as_they_are_and_the_terminal_never_obeys(word: str) -> None:
    text = quoted(word)
    assert not any(letter < " " and letter not in "\n\t" for letter in text)
    printed = subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, check=True).stdout
    assert printed == word.encode("utf-8", "surrogateescape")


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
