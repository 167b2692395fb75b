"""What people get wrong, and what Shiplap tells them: a place, a reason, a next step; never a traceback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.toolkit.foreign import run_tool
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


def _fails(result: subprocess.CompletedProcess[str], *fragments: str, code: int = 1) -> str:
    """Assert that a command failed as it should: exit code, no traceback, and every fragment in its message."""
    message = result.stderr
    assert result.returncode == code, result.stdout + message
    assert "Traceback" not in message
    assert "error: " in message or "Dockerfile:" in message
    for fragment in fragments:
        assert fragment in message
    return message


def _build(shiplap: Shiplap, directory: Path, dockerfile: str, *args: str) -> subprocess.CompletedProcess[str]:
    (directory / "Dockerfile").write_text(dockerfile)
    return shiplap("build", "--progress", "plain", *args, directory, check=False)


def test_missing_dockerfile_is_named(shiplap: Shiplap, tmp_path: Path) -> None:
    _fails(shiplap("build", tmp_path, check=False), "Dockerfile", str(tmp_path), "hint: ")


def test_missing_dockerfile_given_by_name_is_named(shiplap: Shiplap, tmp_path: Path) -> None:
    _fails(shiplap("build", "-f", tmp_path / "Dockerfile.prod", tmp_path, check=False), "Dockerfile.prod")


def test_empty_dockerfile_is_refused(shiplap: Shiplap, tmp_path: Path) -> None:
    _fails(_build(shiplap, tmp_path, ""), "empty")


def test_dockerfile_of_comments_only_is_refused(shiplap: Shiplap, tmp_path: Path) -> None:
    _fails(_build(shiplap, tmp_path, "# nothing\n\n# here\n"), "Dockerfile")


def test_comment_that_is_no_utf8_is_only_a_comment(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"# caf\xe9\nFROM scratch\nLABEL a=b\n")
    for _ in range(2):
        shiplap("build", "--progress", "plain", tmp_path)


def test_unknown_instruction_is_shown_with_a_suggestion(shiplap: Shiplap, tmp_path: Path) -> None:
    message = _fails(_build(shiplap, tmp_path, "FROM scratch\nCOPPY a /a\n"), "Dockerfile:2:1", "COPPY", "COPY")
    assert "^" in message


def test_unterminated_heredoc_names_its_delimiter_and_line(shiplap: Shiplap, tmp_path: Path) -> None:
    result = _build(shiplap, tmp_path, "FROM scratch\nCOPY <<EOF /file\nhello\n")
    _fails(result, "Dockerfile:2", "heredoc", "EOF")


@pytest.mark.parametrize("instruction", ['ENV NAME="value', "LABEL a='b", 'COPY "file /'], ids=["env", "label", "copy"])
def test_unterminated_quote_names_the_line(shiplap: Shiplap, tmp_path: Path, instruction: str) -> None:
    _fails(_build(shiplap, tmp_path, f"FROM scratch\n{instruction}\n"), "Dockerfile:2", "quote")


def test_copy_of_a_missing_file_names_file_and_line(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    result = _build(shiplap, tmp_path, "FROM scratch\nCOPY requirments.txt /\n")
    _fails(result, "Dockerfile:2", "requirments.txt", "requirements.txt")


def test_copy_of_an_ignored_file_says_that_it_is_ignored(shiplap: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / ".dockerignore").write_text("secret\n")
    _fails(_build(shiplap, tmp_path, "FROM scratch\nCOPY secret /\n"), "Dockerfile:2", "secret", ".dockerignore")


def test_copy_from_an_unknown_stage_suggests_the_near_one(shiplap: Shiplap, tmp_path: Path) -> None:
    result = _build(shiplap, tmp_path, "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /a\n")
    _fails(result, "Dockerfile:3", "biuld", "did you mean the stage build?")


def test_unknown_target_suggests_the_near_stage(shiplap: Shiplap, tmp_path: Path) -> None:
    result = _build(shiplap, tmp_path, "FROM scratch AS release\nCOPY Dockerfile /\n", "--target", "relase")
    _fails(result, "relase", "release")


def test_unknown_base_image_is_named_with_its_line(base_store: Shiplap, tmp_path: Path) -> None:
    result = _build(base_store, tmp_path, "FROM busybocks\nRUN true\n")
    _fails(result, "Dockerfile:1", "busybocks", "busybox")


def test_context_that_is_a_file_is_refused(shiplap: Shiplap, tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.touch()
    _fails(shiplap("build", file, check=False), str(file), "director")


def test_context_that_does_not_exist_is_refused(shiplap: Shiplap, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    _fails(shiplap("build", missing, check=False), str(missing))


def test_failed_run_shows_output_line_and_code(base_store: Shiplap, tmp_path: Path) -> None:
    result = _build(base_store, tmp_path, f"FROM {BUSYBOX_NAME}\nRUN echo almost there >&2; exit 7\n")
    message = _fails(result, "Dockerfile:2", "7", "almost there")
    assert "^" in message


def test_unsupported_flag_is_a_clear_error(base_store: Shiplap, tmp_path: Path) -> None:
    _fails(_build(base_store, tmp_path, f"FROM {BUSYBOX_NAME}\nRUN --gpu=all true\n"), "Dockerfile:2", "--gpu")


@pytest.fixture
def small_disk(privileged: None, tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the busybox image and not for much more."""
    directory = tmp_path / "small-disk"
    directory.mkdir()
    run_tool("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", directory)
    yield directory
    run_tool("umount", directory)


def test_full_disk_is_said_and_leaves_a_store_that_works(small_disk: Path, busybox_tar: Path, tmp_path: Path) -> None:
    shiplap = Shiplap(small_disk / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME, cwd=tmp_path)
    context = tmp_path / "context"
    context.mkdir()
    (context / "big").write_bytes(bytes(32 << 20))
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nCOPY big /\n")
    _fails(shiplap("build", context, check=False, cwd=tmp_path), "no space left", "hint: ")

    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN dd if=/dev/zero of=/big bs=1M count=32\n")
    result = shiplap("build", "--progress", "plain", context, check=False, cwd=tmp_path)
    _fails(result, "No space left on device")

    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo small > /small\n")
    shiplap("build", "-t", "small", context, cwd=tmp_path)
    assert shiplap("run", "--rm", "small", "cat", "/small", cwd=tmp_path).stdout == "small\n"


_NO_USER_NAMESPACES = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
_WITHOUT_NAMESPACES = {
    "user namespaces are off": ("unshare", "--user", "--map-root-user", "sh", "-ec", _NO_USER_NAMESPACES, "sh"),
    "root may not mount": ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
}


@pytest.mark.parametrize("prefix", _WITHOUT_NAMESPACES.values(), ids=_WITHOUT_NAMESPACES)
def test_host_without_permission_for_namespaces_is_said_with_a_remedy(
    base_store: Shiplap, tmp_path: Path, prefix: Sequence[str]
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo never\n")
    result = base_store("build", "--no-cache", "--progress", "plain", tmp_path, prefix=prefix, check=False)
    _fails(result, "namespace", "hint: ")
