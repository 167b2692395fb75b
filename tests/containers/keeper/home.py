"""An engine's directories with containers in them, and what the engine would ask their keepers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from containers.capabilities import DEFAULT_CAPABILITIES
from containers.errors import KeeperError
from containers.keeper import nursery_client, protocol, records
from containers.keeper.protocol import Conversation
from core import ofdlocks, packets
from core.rootfs import DirectoryLayer
from tests.toolkit.bounds import eventually, stretched


@dataclass
class Home:
    """root, run: of the engine. layer: a busybox. finish: see ``nursery_client``."""

    root: Path
    run: Path
    layer: DirectoryLayer
    finish: Sequence[str] = ()
    made: list[str] = field(default_factory=list)

    def create(self, *args: str, process: dict[str, Any] | None = None, **fields: Any) -> Box:
        """A container that was never started. process: members that differ from the usual."""
        identity = os.urandom(32).hex()
        folder = self.root / "containers" / identity
        for name in ("upper/fs", "upper/work"):
            (folder / name).mkdir(parents=True)
        (folder / "upper" / "fs").chmod(0o755)
        spec = {
            "format": 1,
            "id": identity,
            "name": f"n{identity[:6]}",
            "created": records.moment(),
            "hostname": identity[:12],
            "caller": {"uid": 0, "gid": 0, "groups": []},
            "layers": [[self.layer.path]],
            "upper": str(folder / "upper"),
            "process": {
                "args": list(args),
                "env": [["PATH", "/bin:/usr/bin"]],
                "cwd": "/",
                "user": "",
                "terminal": False,
                "stdin_open": False,
                "stdin_once": False,
                "capabilities": sorted(DEFAULT_CAPABILITIES),
                "filtered": True,
                "ulimits": [],
                "no_new_privileges": False,
                "init": False,
                **(process or {}),
            },
            "limits": {},
            "shm_bytes": 64 << 20,
            "mounts": [],
            "read_only": False,
            "network": "none",
            "stop": {"signal": 15, "timeout_s": 10},
            "restart": {"policy": "no", "maximum": 0},
            "health": None,
            "log": {"driver": "json-file", "max_size": 20 << 20, "max_file": 5},
            "auto_remove": False,
            "asked": {"Image": "busybox", "Labels": {}},
            **fields,
        }
        box = Box(self, identity, folder)
        box.write_spec(spec)
        self.made.append(identity)
        return box

    def nursery(self) -> Conversation:
        return nursery_client.nursery(str(self.root), str(self.run), finish=self.finish)

    def status(self) -> dict[str, Any]:
        with self.nursery() as nursery:
            return nursery.ask("status")[0]

    def end(self) -> None:
        """Stop everything that runs here."""
        for identity in self.made:
            try:
                with nursery_client.living(str(self.run), identity) as keeper:
                    keeper.ask("stop", {"timeout_s": 0}, timeout_s=stretched(30))
            except (KeeperError, TimeoutError):
                continue
        try:
            with protocol.connect(f"{self.run}/nursery.sock") as nursery:
                nursery.ask("end")
        except KeeperError:
            return


@dataclass
class Box:
    """One container."""

    home: Home
    identity: str
    folder: Path

    def write_spec(self, spec: dict[str, Any]) -> None:
        (self.folder / ".spec.new").write_text(json.dumps(spec))
        (self.folder / ".spec.new").rename(self.folder / "spec.json")

    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "spec.json").read_text())
        return found

    def keeper(self) -> Conversation:
        """Its keeper, made if there is none."""
        return nursery_client.keeper(str(self.home.root), str(self.home.run), self.identity, finish=self.home.finish)

    def ask(self, verb: str, fields: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> dict[str, Any]:
        with self.keeper() as keeper:
            return keeper.ask(verb, fields, fds, timeout_s=stretched(60))[0]

    def start(self) -> dict[str, Any]:
        return self.ask("start")

    def stop(self, **fields: Any) -> dict[str, Any]:
        return self.ask("stop", fields)

    def run(self) -> int:
        """Start it, wait for its end; its exit code."""
        with self.keeper() as keeper, self.keeper() as waiter:
            protocol.send(waiter.socket, {"verb": "wait", "condition": "next-exit"})
            keeper.ask("start", timeout_s=stretched(60))
            return int(waiter.receive(timeout_s=stretched(60))[0]["exit_code"])

    def state(self) -> dict[str, Any]:
        return records.read_state(str(self.folder))

    def is_kept(self) -> bool:
        """Whether a keeper lives."""
        return ofdlocks.is_file_locked(str(self.folder / "lock"))

    def keeper_pid(self) -> int:
        """The keeper's process, by who its socket belongs to."""
        with self.keeper() as keeper:
            return packets.peer(keeper.socket)[0]

    def lines(self) -> list[dict[str, Any]]:
        """Its log, all files."""
        files = sorted((self.folder / "log").glob("*.json"), key=lambda file: int(file.stem))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def output(self, stream: str = "stdout") -> bytes:
        texts = [line["log"] for line in self.lines() if line["stream"] == stream]
        return "".join(texts).encode("utf-8", "surrogateescape")

    def until(self, status: str) -> None:
        eventually(lambda: self.state()["status"] == status, why=f"{status}: {self.state()}")

    def execute(self, *args: str, stdin: bytes = b"", **fields: Any) -> tuple[int, bytes]:
        """Run a command in it; its exit code, and what it printed."""
        with self.exec_on_pipes(*args, **fields) as (keeper, write, read):
            os.write(write, stdin)
            os.close(write)
            said = b""
            while piece := os.read(read, 1 << 16):
                said += piece
            while "ended" not in (message := keeper.receive(timeout_s=stretched(60))[0]):
                assert "started" in message
            return message["ended"]["exit_code"], said

    @contextmanager
    def exec_on_pipes(self, *args: str, **fields: Any) -> Iterator[tuple[Conversation, int, int]]:
        """A command that was asked for: the conversation, its stdin, and its stdout and stderr together."""
        from_us, write = os.pipe()
        read, to_us = os.pipe()
        with self.keeper() as keeper:
            protocol.send(
                keeper.socket, {"verb": "exec", "args": args, "stdin": True, **fields}, [from_us, to_us, to_us]
            )
            os.close(from_us)
            os.close(to_us)
            try:
                yield keeper, write, read
            finally:
                os.close(read)


def wait_until_unlocked(box: Box) -> None:
    """Wait until its keeper has gone."""
    eventually(lambda: not box.is_kept())


def now() -> float:
    return time.monotonic()
