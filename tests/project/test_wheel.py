"""What ``pipx install .`` gives: a command that works far from the checkout, with all its data files."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolkit.git import git

_CHECKOUT = Path(__file__).resolve().parents[2]
_GONE = "pipelines/migrations/versions/0099_gone.py"
_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    # From a copy: a build in the checkout would leave files in build/.
    listing: list[str | Path] = ["git", "-C", _CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listing, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    source = directory / "source"
    for name in filter(None, tracked):
        if (_CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((_CHECKOUT / name).read_bytes())
    gone = source / "build" / "lib" / _GONE  # as `pipx install .` of an earlier version left it
    gone.parent.mkdir(parents=True)
    gone.write_text("1/0\n")
    git(source, "init", "--quiet")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "-m", "a release")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", directory)
    subprocess.run([sys.executable, *_PIP, "wheel", *options, source], check=True, stdin=subprocess.DEVNULL)
    (directory / "commit").write_text(git(source, "rev-parse", "--short=12", "HEAD") + "\n")
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs the ``shiplap`` of an environment that has the wheel and what it depends on, and nothing else."""
    directory = tmp_path_factory.mktemp("pipx")
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    python = directory / "venv" / "bin" / "python"
    subprocess.run([python, *_PIP, "install", wheel], check=True, stdin=subprocess.DEVNULL, cwd=directory)

    def run(*args: str | Path) -> str:
        command = [python.with_name("shiplap"), "--root", directory / "root", *args]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=directory).stdout

    return run


def test_wheel_holds_the_rooms_with_their_data_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name and ".data/" not in name}
    assert top == {path.parent.name for path in _CHECKOUT.glob("*/__init__.py")} - {"tests", "bench"}
    files = (path for room in top for path in (_CHECKOUT / room).rglob("*") if path.is_file())
    data = {str(path.relative_to(_CHECKOUT)) for path in files if path.suffix not in {".py", ".pyc"}}
    assert any(name.endswith(".lark") for name in data)
    assert data <= set(names)


def test_man_finds_the_pages_of_a_command_in_the_path(installed: Callable[..., str]) -> None:
    place = Path(installed("info", "--format", "{{.DockerRootDir}}").strip()).parent / "venv"
    found = subprocess.run(
        ["man", "-w", "shiplap-build-history-ls"], env={"PATH": f"{place}/bin:{os.environ['PATH']}"}, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    assert found == f"{place}/share/man/man1/shiplap-build-history-ls.1\n"


def test_upgrade_in_the_same_checkout_takes_nothing_of_the_earlier_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert _GONE not in archive.namelist()


def test_wheel_knows_the_commit_that_it_was_built_from(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("core/commit.txt").decode() == (wheel.parent / "commit").read_text()


def test_source_archive_brings_its_commit_to_the_wheels_that_are_built_of_it(wheel: Path, tmp_path: Path) -> None:
    source = wheel.parent / "source"
    code = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, stdout=subprocess.DEVNULL)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    code = f"import setuptools.build_meta as b; b.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as files:
        assert files.read("core/commit.txt").decode() == (wheel.parent / "commit").read_text()


def test_installed_command_builds_and_runs(
    privileged: None, installed: Callable[..., str], busybox_tar: Path, tmp_path: Path
) -> None:
    assert installed("--version").startswith("shiplap ")
    assert ", commit " in installed("version")
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch AS files\nCOPY Dockerfile /\n\n"
        "FROM busybox\nCOPY --from=files / /\nRUN wc -l < /Dockerfile > /lines\n"
    )
    installed("image", "import", busybox_tar, "busybox")
    installed("build", "-t", "counted", tmp_path)
    assert installed("run", "--rm", "counted", "cat", "/lines") == "6\n"
