"""What needs ``--privileged`` and gets by with it: systemd as process 1, docker's daemon, Shiplap itself.

Their programs are this host's own, bound read-only, so that no image has to be made of them. Each starts for real.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from engine.engine import Engine
from engine.places import Places
from images.store import Store
from images.tarwriter import TarWriter
from tests.engine.conftest import ended, put_image
from tests.toolkit.bounds import eventually
from tests.toolkit.shiplap import Shiplap

_DIRECTORIES: Final = ("etc", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var", "var/lib")
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\ndocker:x:990:\nshiplap:x:991:\n",
    "etc/machine-id": "",
}  # fmt: skip
_PROGRAMS: Final = ["/usr:/usr:ro", "/etc/alternatives:/etc/alternatives:ro"]
_CHECKOUT: Final = Path(__file__).parents[2]


@pytest.fixture
def shell(living: Engine) -> Engine:
    """An engine with the image ``host``."""
    _put_host(living)
    return living


@pytest.fixture
def known(busybox_root: Path) -> Iterator[Engine]:
    """The same at the place where commands look for it."""
    with ended(Engine(Places.of(busybox_root))) as engine:
        _put_host(engine)
        yield engine


def _put_host(engine: Engine) -> None:
    """Add the image ``host``: where this host's programs can be bound, and nothing else."""
    with Store.open(engine.places.root) as store:
        with store.layers.writer() as blob:
            writer = TarWriter(blob)
            for name in _DIRECTORIES:
                writer.directory(name.encode(), 0o755, 0, 0, 0)
            for name in ("bin", "lib", "lib64", "sbin"):
                writer.symlink(name.encode(), f"usr/{name}".encode(), 0, 0, 0)
            for name, text in _FILES.items():
                writer.file(name.encode(), 0o644, 0, 0, 0, len(text), text.encode())
            writer.close()
            layer = blob.commit()
        put_image(store, "host", [layer], env=("PATH=/usr/local/bin:/usr/sbin:/usr/bin",))


def started(engine: Engine, *command: str, binds: list[str], **body: Any) -> str:
    host = {"NetworkMode": "none", "Privileged": True, "Binds": [*_PROGRAMS, *binds], "Tmpfs": {"/run": "exec"}}
    made = engine.create("one", {"Image": "host", "Cmd": list(command), "HostConfig": host, **body})
    engine.start(made.id)
    return made.id


def output(engine: Engine) -> str:
    return b"".join(entry.data for entry in engine.logs("one")).decode(errors="replace")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Binds of Shiplap, of its units, and of which of them are enabled."""
    python = Path(sys.prefix)
    own = {_CHECKOUT, Path(os.path.realpath(python)), Path(sys.base_prefix)}
    for name in ("shiplap", "shiplap-restore"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {python}/bin/{name} "$@"\n')
        path.chmod(0o755)
    system = tmp_path / "system"
    for wants, unit in (("sockets", "shiplap-engine.socket"), ("multi-user", "shiplap-restore.service")):
        (system / f"{wants}.target.wants").mkdir(parents=True)
        (system / f"{wants}.target.wants" / unit).symlink_to(f"/etc/systemd/system/{unit}")
    for path in (_CHECKOUT / "compose" / "systemd").glob("shiplap-[er]*"):
        shutil.copy(path, system)
    (system / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    (system / "tmp.mount").symlink_to("/dev/null")  # the checkout may be below /tmp
    return [
        *(f"{path}:{path}:ro" for path in sorted(own) if not path.is_relative_to("/usr")),
        f"{tmp_path}/bin:/usr/local/bin:ro",
        f"{system}:/etc/systemd/system:ro",
    ]


def test_systemd_is_process_1_and_starts_shiplaps_units(known: Engine, units: list[str], busybox_tar: Path) -> None:
    """The engine's when somebody connects, and at a boot the containers that are to run; they need neither."""
    command = ("/usr/lib/systemd/systemd", "--log-target=console", "--show-status=1")
    env = ["container=shiplap", "SYSTEMD_LOG_LEVEL=info", "SHIPLAP_ROOT=/var/lib/shiplap"]
    volumes: dict[str, Any] = {"/var/lib/shiplap": {}}
    units = [*units, f"{busybox_tar}:/srv/busybox.tar:ro"]
    started(known, *command, binds=units, Tty=True, Env=env, StopSignal="SIGRTMIN+3", Volumes=volumes)
    outside = Shiplap(known.places.root)

    def within(script: str) -> str:
        done = outside("exec", "one", "sh", "-c", script, check=False)
        return f"{done.stdout}{done.stderr}".strip()

    def booted() -> bool:
        return within("systemctl is-active shiplap-restore.service") == "active"

    docker = "docker -H unix:///run/shiplap/docker.sock"
    eventually(booted)
    assert within("systemctl is-active shiplap-engine.socket shiplap-engine.service").split() == ["active", "inactive"]
    assert within("stat -c '%a %U:%G' /run/shiplap/docker.sock") == "660 root:shiplap"
    within("shiplap image import /srv/busybox.tar bb")
    run = f"{docker} run -d --network none --init --restart"
    for policy, name in (("always", "kept"), ("no", "gone")):
        made = within(f"{run} {policy} --name {name} bb sleep 1000")
        assert len(made) == 64, made
    assert within("systemctl is-active shiplap-engine.service") == "active"
    within("systemctl -q stop shiplap-engine.service")
    assert within("shiplap ps --format '{{.Names}}'").split() == ["gone", "kept"]
    assert within(f"{docker} ps -q | wc -l") == "2"
    known.stop("one", timeout_s=60)
    assert known.inspect("one")["State"]["ExitCode"] == 130  # systemd's own, at a power-off in a container; not 137
    known.start("one")
    eventually(booted)
    assert within("shiplap ps --format '{{.Names}}'") == "kept"
    assert within("shiplap inspect -f '{{.State.ExitCode}}' gone") == "143", "it was stopped, not lost"


def test_dockers_daemon_runs_containers_on_its_own_overlay(shell: Engine, busybox_tar: Path) -> None:
    script = """
    dockerd >/tmp/log 2>&1 &
    until docker info >/tmp/info 2>/dev/null; do sleep 0.05; test -d /proc/$! || { cat /tmp/log; exit 3; }; done
    grep Storage /tmp/info
    docker import /busybox.tar bb >/dev/null
    docker run --rm -v data:/data bb sh -c 'echo within | tee /data/file' || tail -30 /tmp/log
    docker run --rm -v data:/data bb cat /data/file
    """
    volumes: dict[str, Any] = {"/var/lib/docker": {}}
    started(shell, "sh", "-c", script, binds=[f"{busybox_tar}:/busybox.tar:ro"], Volumes=volumes)
    assert shell.wait("one") == 0
    assert output(shell).split() == ["Storage", "Driver:", "overlay2", "within", "within"], output(shell)


def test_shiplap_builds_and_runs_within_shiplap(shell: Engine, busybox_tar: Path) -> None:
    python = Path(sys.prefix)
    own = {_CHECKOUT, Path(os.path.realpath(python)), Path(sys.base_prefix)}
    binds = [f"{path}:{path}:ro" for path in sorted(own) if not path.is_relative_to("/usr")]
    script = f"""
    set -e
    shiplap() {{ {python}/bin/python -P -m cli "$@"; }}
    cd /srv
    printf 'FROM scratch\\nADD busybox.tar /\\nRUN echo built >/file\\n' >/tmp/Dockerfile
    shiplap build -q -f /tmp/Dockerfile -t bb --network none . >/tmp/log 2>&1 || {{ cat /tmp/log; exit 3; }}
    shiplap run -d --name inner --network none bb sleep 1000 >/tmp/id
    shiplap exec inner sh -c 'cat /file; tr -s " " </proc/self/uid_map'
    shiplap rm -f inner
    """
    binds.append(f"{busybox_tar}:/srv/busybox.tar:ro")
    env = [f"PYTHONPATH={_CHECKOUT}", "PYTHONDONTWRITEBYTECODE=1", "SHIPLAP_ROOT=/var/lib/shiplap"]
    started(shell, "sh", "-c", script, binds=binds, Volumes={"/var/lib/shiplap": {}}, Env=env)
    assert shell.wait("one") == 0, output(shell)
    assert output(shell) == "built\n 0 0 65536\ninner\n"
