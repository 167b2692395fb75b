"""--build-context, --ssh and --allow, as the command line reads them, and a build with all of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SshKeyError
from cli.building.sources import SourceOptions, open_build_contexts, read_access, read_entitlements
from cli.errors import CommandError
from core.platforms import Platform
from images.store import Store
from tests.toolkit.files import serving_files
from tests.toolkit.git import git, serving_git
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


def access(ssh: tuple[str, ...] = (), context: str = ".", **environ: str) -> Any:
    return read_access(SourceOptions((), ssh, ()), context, environ)


def test_ssh_without_a_value_is_the_users_agent() -> None:
    assert list(access(("default", "other"), SSH_AUTH_SOCK="/run/agent").ssh) == ["default", "other"]
    with pytest.raises(CommandError, match="no SSH agent is running"):
        access(("default",))


def test_ssh_with_keys_or_a_socket(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    assert list(access((f"deploy={key}",)).ssh) == ["deploy"]
    with pytest.raises(SshKeyError, match="cannot read"):
        access((f"deploy={tmp_path}/nothing",))
    with pytest.raises(CommandError, match="has no ID"):
        access((f"={key}",))


@pytest.mark.parametrize(
    ("context", "brings"),
    [("git@example.test:app.git", True), ("ssh://git@example.test/app", True), ("https://example.test/a.git", False)],
)
def test_agent_comes_along_with_a_repository_over_ssh(context: str, brings: bool) -> None:
    assert bool(access((), context, SSH_AUTH_SOCK="/run/agent").ssh) is brings
    assert not access((), context).ssh


@pytest.mark.parametrize(
    ("allow", "network", "expected"),
    [((), "default", set()), (("network.host",), "default", {"network.host"}), ((), "host", {"network.host"}),
     (("security.insecure", "network.host"), "none", {"network.host", "security.insecure"})],
)  # fmt: skip
def test_entitlements(allow: tuple[str, ...], network: str, expected: set[str]) -> None:
    assert read_entitlements(SourceOptions((), (), allow), network) == expected


@pytest.mark.parametrize("name", ["device", "all", "fs.read=/", "security"])
def test_unknown_entitlement_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match=f"--allow {name}: no such entitlement"):
        read_entitlements(SourceOptions((), (), (name,)), "default")


def contexts(store: Store, *texts: str) -> Mapping[str, object]:
    with ExitStack() as stack:
        return open_build_contexts(SourceOptions(texts, (), ()), store, [Platform.host()], stack)


def test_build_contexts_are_looked_up_by_short_names(tmp_path: Path) -> None:
    with Store.open(tmp_path / "root") as store:
        found = contexts(store, f"lib={tmp_path}", "docker.io/library/Base:latest=docker-image://other".lower())
        assert set(found) == {"lib", "base"}
        for text in ("lib", "=x", "lib="):
            with pytest.raises(CommandError, match="not NAME=VALUE"):
                contexts(store, text)


def test_build_with_a_repository_a_url_an_agent_and_entitlements(base_store: Shiplap, tmp_path: Path) -> None:
    repository = tmp_path / "served" / "app.git"
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nCOPY --from=data context /f\n"
        "RUN --mount=type=ssh,required cat /f; ls -l $SSH_AUTH_SOCK\n"
        "RUN --security=insecure mount -t tmpfs none /tmp\nRUN --network=host true\n"
    )
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "one")
    with serving_git(repository.parent) as server, serving_files() as files:
        files.files["/data"] = b"from elsewhere\n"
        words = ("build", "--progress=plain", "--build-context", f"data={files.url}/data", "--ssh", f"default={key}")
        allowed = ("--allow", "security.insecure", "--allow", "network.host")
        said = base_store(*words, *allowed, f"{server.url}/app.git").stderr
        refused = base_store(*words, f"{server.url}/app.git", check=False)
    assert "from elsewhere" in said
    assert "/run/buildkit/ssh_agent.0" in said
    assert "Dockerfile:4:5: RUN --security=insecure is not allowed" in refused.stderr
    assert "--allow security.insecure" in refused.stderr
