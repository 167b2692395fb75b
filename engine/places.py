"""Where the engine of one root keeps things.

ROOT/engine.db                     rows: containers, volumes (records.py)
ROOT/containers/ID/spec.json       what was asked for; replaced as a whole
                  /state.json      what became of it; only who holds the lock writes it
                  /lock            held by the keeper for life, by a creator and a remover for their moment
                  /networks.lock   held by who connects it to a network, or takes it out of one
                  /upper/fs, work  what the container changes
                  /etc/            hosts, hostname, resolv.conf
                  /log/N.json      what it wrote
ROOT/containers/.new-ID            being made; .gone-ID: being removed
ROOT/volumes/NAME/_data
RUN/nursery.sock, k/ID.sock, due/ID, events/N.jsonl, ids/N, root (the path of ROOT); a boot clears it
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Self

from core.files import make_directory, write_atomically
from core.namespaces import is_initial
from core.settings import runtime_directory
from core.smallhash import sha256

_SOCKET_DIGITS = 16  # a socket's path has 107 bytes
_RUN_DIGITS = 12
_RUN = Path("/run")


class Places(NamedTuple):
    """The paths of one root.

    root: where data lives. run: what lives as long as this boot.
    """

    root: Path
    run: Path

    @classmethod
    def of(cls, root: Path) -> Self:
        """The places of a root, for this user."""
        name = sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:_RUN_DIGITS]
        if os.geteuid() == 0 and is_initial():
            return cls(root, _RUN / "shiplap" / name)
        users = runtime_directory() or (_RUN if os.access(_RUN, os.W_OK) else None)
        return cls(root, root / "run" if users is None else users / "shiplap" / name)

    @property
    def database(self) -> Path:
        return self.root / "engine.db"

    @property
    def containers(self) -> Path:
        return self.root / "containers"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def events(self) -> Path:
        return self.run / "events"

    @property
    def due(self) -> Path:
        return self.run / "due"

    @property
    def api(self) -> Path:
        """Where the engine's API listens. RUN is root's alone, so root's is beside it: there members get to it."""
        if os.geteuid() == 0 and is_initial():
            return self.run.parent / f"{self.run.name}.sock"
        return self.run / "docker.sock"

    @property
    def handed(self) -> Path:
        """Where a service hands connections of docker's clients over."""
        return self.run.parent / f"{self.run.name}.handed.sock"

    def container(self, identity: str) -> Path:
        """The directory of a container."""
        return self.containers / identity

    def keeper(self, identity: str) -> Path:
        """The socket of a container's keeper."""
        return self.run / "k" / f"{identity[:_SOCKET_DIGITS]}.sock"

    def make(self) -> None:
        """Make the directories that are missing. None but this user may look into them: setuid files are real there."""
        for path in (self.root, self.containers, self.volumes):
            make_directory(path, mode=0o700)
        self.run.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (self.run, self.run / "k", self.events, self.due):
            path.mkdir(mode=0o700, exist_ok=True)
        self._note_root()
        if self.run.stat().st_mode & 0o077:  # as an earlier release could leave it
            self.run.chmod(0o700)

    def _note_root(self) -> None:
        """Write down whose RUN it is, for when the root is gone: ``abandoned``."""
        path = self.run / "root"
        if not path.exists():  # several processes, and threads of one, may come here at once
            write_atomically(path, os.fsencode(os.path.abspath(self.root)), mode=0o600)
