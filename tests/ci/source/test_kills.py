"""SIGKILL while a commit is fetched, written and shown: nothing half-made is ever used, and the next run works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.remotes.giturls import GitRemote
from ci.model import SourceOptions
from ci.source.commit import FetchedCommit, WantedCommit
from images.store import Store
from images.verify import verify
from tests.ci.source.repositories import Repository, seen
from tests.images.test_snapshots import mounted

pytestmark = pytest.mark.usefixtures("privileged")

_KILLS = 12
_RUN = """
import sys
from pathlib import Path
from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import GitRemote
from ci.model import SourceOptions
from ci.source.commit import FetchedCommit, WantedCommit
from images.store import Store
root, repository = Path(sys.argv[1]), Path(sys.argv[2])
remote = GitRemote(f"file://{repository}", "file", "", 0)
with Store.open(root) as store:
    print("open", flush=True)
    wanted = WantedCommit("p", remote, GitAccess(local=repository / ".git"), "refs/heads/main")
    with FetchedCommit(store, wanted) as fetched:
        store.snapshots.lowers(fetched.layers(SourceOptions()))
        with fetched.git_view(SourceOptions()).mounted("/work/.git"):
            pass
"""


def test_a_kill_at_any_moment_leaves_what_works(tmp_path: Path) -> None:
    repository, root, chance = Repository(tmp_path / "repository"), tmp_path / "root", random.Random(11)
    for number in range(300):
        repository.write(**{f"d{number % 9}__f{number}": os.urandom(3000).hex()})
    repository.commit()
    command = [sys.executable, "-c", _RUN, str(root), str(repository.path)]
    took_s = _timed(command)
    for kill in range(_KILLS):
        for number in range(100 if kill % 3 else 4):  # a new base, or a difference
            repository.write(**{f"d{number % 9}__f{number}": os.urandom(3000).hex()})
        repository.commit()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * took_s)
            process.send_signal(signal.SIGKILL)
        with Store.open(root) as store:
            assert verify(store) == []
    with Store.open(root) as store:
        remote, access = repository.way()
        assert isinstance(remote, GitRemote)
        with FetchedCommit(store, WantedCommit("p", remote, access, "refs/heads/main")) as fetched:
            layers = fetched.layers(SourceOptions())
            (tmp_path / "seen").mkdir()
            with mounted(store.snapshots.lowers(layers), tmp_path / "seen") as merged:
                assert seen(merged) == repository.checkout(tmp_path / "checkout")
            assert fetched.objects.run("fsck", "--no-dangling") == b""
        assert verify(store) == []
    assert [name for name in os.listdir(root / "mirrors") if name.startswith(".making") or ".away" in name] == []


def _timed(command: list[str]) -> float:
    """How long it takes when nobody kills it, seconds."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began
