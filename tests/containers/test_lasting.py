"""Where a user's containers live on: scopes of systemd's, lingering, and what is said where they are not to be had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from containers import delegation, lasting
from containers.keeper import anchor
from core import zygote
from core.owners import user_name


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private socket of a user's manager, on a host that systemd runs; this process is no root there."""
    private = tmp_path / "systemd" / "private"
    private.parent.mkdir()
    private.touch()
    monkeypatch.setattr(delegation, "_SYSTEMD", str(tmp_path))
    monkeypatch.setattr(delegation, "is_initial", lambda: False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return private


def test_user_has_a_scope_of_their_own_manager(manager: Path) -> None:
    assert delegation.scope()[:3] == ["systemd-run", "--user", "--scope"]
    assert lasting.manager()[0]


def test_user_without_a_manager_has_no_scope_and_is_told_how_to_get_one(manager: Path) -> None:
    manager.unlink()
    assert delegation.scope() == []
    well, found, remedy = lasting.manager()
    assert not well
    assert str(manager.parents[1]) in found
    assert "machinectl shell" in remedy


def test_roots_scope_is_the_systems(manager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "is_initial", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert delegation.scope()[:2] == ["systemd-run", "--scope"]
    assert "Before=shiplap-restore.service" in delegation.scope()  # which stops the containers at a shutdown


def test_lingering_is_looked_for_by_the_users_name(manager: Path, tmp_path: Path) -> None:
    name = user_name(0)
    assert lasting.lingering(tmp_path) == (
        False, f"containers of {name} end with the last session", f"loginctl enable-linger {name}"
    )  # fmt: skip
    (tmp_path / name).touch()
    assert lasting.lingering(tmp_path)[0]


@pytest.mark.parametrize("is_root", [False, True])
def test_user_whose_manager_refuses_works_without_a_scope(
    manager: Path, monkeypatch: pytest.MonkeyPatch, is_root: bool
) -> None:
    asked: list[Sequence[str]] = []

    def start(_module: str, _arguments: Sequence[str], _log: str, *, around: Sequence[str] = ()) -> None:
        asked.append(around)
        if around:
            raise zygote.ZygoteError("Failed to connect to bus")

    monkeypatch.setattr(zygote, "start", start)
    monkeypatch.setattr(anchor, "is_initial", lambda: is_root)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if is_root:
        with pytest.raises(zygote.ZygoteError):
            anchor.start_in_scope("any", [], "log")
    else:
        anchor.start_in_scope("any", [], "log")
        assert asked == [delegation.scope(), ()]
