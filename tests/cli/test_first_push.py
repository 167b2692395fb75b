"""README's way from nothing to a green build started by ``git push``, as a newcomer goes it."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.toolkit.git import git, make_certificate, serving_git
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_HOST: Final = "localhost"


def readme_commands() -> list[list[str]]:
    """The commands of README's section, without prompt and comments."""
    text = (_CHECKOUT / "README.md").read_text()
    found = re.search(r"^## Push, and it is built$.*?\n\n((?:    [^\n]*\n)+)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    lines = [line.strip() for line in found[1].splitlines()]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]


@pytest.fixture
def certificate() -> Iterator[Path]:
    """Of the forge, where git, which the worker runs as nobody, can read it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield make_certificate(Path(directory), _HOST)


@pytest.fixture
def repository(tmp_path: Path, certificate: Path) -> Iterator[tuple[str, Path]]:
    """A forge's repository, by its https URL, and a clone of it with a Dockerfile."""
    bare, clone = tmp_path / "forge" / "me" / "hello.git", tmp_path / "hello"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    clone.mkdir()
    git(clone, "init", "--quiet", "--initial-branch=main")
    git(clone, "remote", "add", "origin", str(bare))
    (clone / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo hello from a push\n")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "Begin")
    with serving_git(tmp_path / "forge", certificate) as server:
        yield f"https://{_HOST}:{server.port}/me/hello.git", clone


def install_hook(bare: Path, told: str, url: str) -> None:
    """What a forge does with the address and the secret that are pasted there: here by docs/webhooks.md's own hook."""
    hook = re.search(r"```sh\n(#!/bin/sh\n.*?)```", (_CHECKOUT / "docs" / "webhooks.md").read_text(), re.DOTALL)
    values = re.fullmatch(r"URL +(\S+)\nsecret +(\S+)\n", told)
    assert hook is not None
    assert values is not None, told
    (bare / "hooks" / "post-receive").write_text(hook[1])
    (bare / "hooks" / "post-receive").chmod(0o755)
    (bare / "shiplap.conf").write_text(f"HOOK_URL={values[1]}\nHOOK_SECRET={values[2]}\nREPOSITORY={url}\n")


def test_git_push_starts_a_green_build_in_five_commands(
    privileged: None,
    shiplap: Shiplap,
    tmp_path: Path,
    busybox_tar: Path,
    repository: tuple[str, Path],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, clone = repository
    install, serve, add, push, follow = readme_commands()
    assert install[0] == "scripts/install-debian"  # and pipx: tests/project installs the wheel
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    assert serve[:2] == ["shiplap", "serve"]
    monkeypatch.setenv("SHIPLAP_GIT_ALLOWED_HOSTS", _HOST)
    monkeypatch.setenv("SHIPLAP_GIT_CA_FILE", str(certificate))
    with (
        (tmp_path / "serve.log").open("w") as log,
        shiplap.start("serve", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE, stderr=log) as serving,
    ):
        try:
            assert serving.stdout is not None
            said = [serving.stdout.readline().decode() for _ in range(3)]
            assert re.search(r"http://127.0.0.1:\d+/welcome\?link=\S+", said[2])
            assert add[:3] == ["shiplap", "project", "add"]
            told = shiplap(
                *[url if word.startswith("https://") else word for word in add[1:]], "--forge", "plain"
            ).stdout
            install_hook(tmp_path / "forge" / "me" / "hello.git", told, url)
            assert push == ["git", "push"]
            git(clone, "push", "--quiet", "origin", "main")
            assert follow[:3] == ["shiplap", "runs", "logs"]
            assert "hello from a push" in shiplap(*follow[1:]).stdout
            (run,) = shiplap.json("runs", "ls", "--json")
            assert run["state"] == "succeeded"
        finally:
            serving.terminate()
