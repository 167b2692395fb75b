"""What survives a power loss at any point: nothing that was promised is missing, and nothing that is there is wrong."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.digests import Digest
from core.settings import ServiceSettings
from engine.engine import Engine
from engine.places import Places
from images.store import Store
from images.verify import verify
from pipelines.database import migrate
from pipelines.service import Service
from registry.server.tokens import load_key
from tests.toolkit.crashes import Disk, State, record

MEMORY = Path("/dev/shm")  # what is looked at has lost its power already
_Check = Callable[[Path, tuple[str, ...]], object]

STORE_TOOLS = """
import io, os, sys
from pathlib import Path
from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.oci import ImageConfig
from images.records import CacheRecord
from images.store import Store
from images.tarwriter import TarWriter

def promise(text):
    os.write(1, f"PROMISE {text}\\n".encode())

def layer(store, number, sync=False):
    with store.layers.writer(sync=sync) as sink:
        writer = TarWriter(sink)
        writer.file(b"f", 0o644, 0, 0, 1, 3000, bytes([number]) * 3000)
        writer.close()
        return sink.commit()

def image(store, name, *layers):
    made = store.images.put(ImageConfig.for_platform(Platform.host()), layers, names=(Reference.parse(name),))
    promise(f"image {name} {made.id}")
    return made

root = Path(sys.argv[1])
"""

MAKE = """
with Store.open(root) as store:
    image(store, "one", layer(store, 1), layer(store, 2, sync=True))
with Store.open(root) as store:
    many = [layer(store, number) for number in range(3, 8)]  # so many are synced by threads
    image(store, "many", *many)
    store.layers.compressed(many[0], "gzip")
    store.cache.put(CacheRecord("key", "op", many[0], 1.0, 1.0, "RUN"))
"""

REMOVE = """
from images import erofs
erofs.works = lambda path: True  # what is recorded starts no process
with Store.open(root) as store:
    store.images.remove("one")
    promise("removed one")
    store.images.prune(all_unused=True, cache=True)
    promise("removed many")
"""

TAG = """
with Store.open(root) as store:
    store.images.tag(Reference.parse("again"), store.images.resolve("one").id)
    promise("image again " + store.images.resolve("one").id)
"""

# A damaged layer, an image that has it, and a good copy.
REPAIR = """
with Store.open(root) as store:
    path = store.layers.path(layer(store, 1, sync=True))
    image(store, "one", layer(store, 1), layer(store, 2))
promise("damaged")
with open(path, "r+b") as file:
    file.seek(600)
    file.write(b"damage")
    file.flush()
    os.fsync(file.fileno())
with Store.open(root) as store:
    image(store, "one", layer(store, 1), layer(store, 2))
    promise("repaired")
"""

PUSH = """
from registry.server.registry import Registry
from registry.server.settings import ServerSettings

with Store.open(root) as store:
    registry = Registry(store, ServerSettings())
    for data in (b"first" * 1000, b"second" * 1000):
        upload = registry.uploads.begin("team/app")
        registry.uploads.append("team/app", upload, [data[:100]], start=None, length=None)
        pushed = registry.uploads.finish("team/app", upload, Digest.of(data), [data[100:]])
        promise(f"pushed {pushed.digest}")
    registry.close()
"""

KEY = """
import os, sys
from pathlib import Path
from registry.server.tokens import load_key
key = load_key(Path(sys.argv[1]) / "serve" / "token.key")
os.write(1, f"PROMISE {key.hex()}\\n".encode())
"""

REPLACE = """
import os, sys
from pathlib import Path
from core.files import write_atomically
for number in range(3):
    write_atomically(Path(sys.argv[1], "file"), b"%d" % number * 5000)
    os.write(1, b"PROMISE %d\\n" % number)
"""

CONTEXTS = """
import io, os, sys
from pathlib import Path
from core.digests import Digest
from pipelines.sources.contexts import Contexts
contexts = Contexts(None, Path(sys.argv[1]) / "contexts")
first = 0
for count in map(int, sys.argv[2:]):
    blobs = [b"%d" % number * 999 for number in range(first, first + count)]
    first += count
    contexts.put_blobs((Digest.of(data), io.BytesIO(data)) for data in blobs)
    os.write(1, "".join(f"PROMISE {Digest.of(data).hex}\\n" for data in blobs).encode())
"""

BACKUP = """
import os, sys
from pathlib import Path
from core.settings import ServiceSettings
from pipelines.keeping import backup as module
from pipelines.keeping.backup import backup
module.commit = lambda: ""  # a checkout asks git for it, and what is recorded starts no process
backup(ServiceSettings.from_environ({}, root=sys.argv[2]), Path(sys.argv[1]) / "backup.tar")
os.write(1, b"PROMISE backup\\n")
"""


CONTAINERS = """
from containers.keeper import records
from engine.engine import Engine
from engine.places import Places

with Store.open(root) as store:
    image(store, "app")
with Engine(Places(root, Path(sys.argv[2]))) as engine:
    made = engine.create("one", {"Image": "app", "Cmd": ["true"], "Volumes": {"/data": {}}})
    promise("made one")
    folder = str(engine.places.container(made.id))
    running = {**records.read_state(folder), "status": "running"}
    records.write_state(folder, running, durable=False)
    records.write_state(folder, {**running, "status": "exited", "exit_code": 3}, durable=True)
    promise("ended")
    engine.rename("one", "other")
    promise("made other")
    engine.remove("other", volumes=True)
    promise("removed")
"""


def try_all(root: Path, program: str, check: _Check, *arguments: str | Path) -> list[State]:
    """Record the program, and check what every power loss leaves. Returns the states."""
    disk = Disk(root)
    states = list(disk.crashes(record(program, root, *arguments)))
    with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        for number, state in enumerate(states):
            place = state.write(Path(memory, f"state-{number}"))
            try:
                check(place, state.promised)
            except BaseException as error:
                error.add_note(f"after call {state.after}, kept {state.kept}, promised {state.promised[-5:]}")
                raise
            shutil.rmtree(place)
    return states


def rebooted(root: Path) -> None:
    """The store is to see that this is another boot."""
    if (root / "store.db").exists():
        with sqlite3.connect(root / "store.db") as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                connection.execute("DELETE FROM meta WHERE key = 'boot_id'")
        connection.close()


def assert_whole(root: Path, promised: tuple[str, ...]) -> None:
    rebooted(root)
    removed = {line.split()[1] for line in promised if line.startswith("removed")}
    with Store.open(root) as store:
        assert verify(store) == []
        names = {name.familiar_name: image for image in store.images.list() for name in image.names}
        for line in promised:
            if line.startswith("image "):
                _, name, image_id = line.split()
                assert name in removed or names[name].id == image_id
        assert not removed & set(names)
    with Store.open(root) as store:
        store.images.prune()
        assert verify(store) == []
        for image in store.images.list():
            assert store.layers.missing(image.diff_ids) == []


def assert_containers_are_whole(place: Path, promised: tuple[str, ...]) -> None:
    """What was promised is there, what is there can be looked at and removed, and nothing else is left then."""
    rebooted(place)
    shutil.rmtree(place.with_name("run"), ignore_errors=True)
    with Engine(Places(place, place.with_name("run"))) as engine:
        found = engine.containers(every=True)
        if "removed" in promised:
            assert found == []
        elif any(line.startswith("made") for line in promised):
            assert [one["Names"][0] for one in found] in (["/one"], ["/other"], [])
            assert len(found) == 1 or "made other" in promised  # it was being removed
        if "made other" in promised:
            assert {one["Names"][0] for one in found} <= {"/other"}
        for one in found:
            state = engine.inspect(one["Id"])["State"]
            assert state["Status"] in ("created", "exited")
            if "ended" in promised:
                assert (state["Status"], state["ExitCode"]) == ("exited", 3)
            engine.remove(one["Id"], volumes=True)
        if any(line.startswith("image") for line in promised):
            made = engine.create("one", {"Image": "app", "Cmd": ["true"]})  # which clears away what nobody knows
            engine.remove(made.id)
            assert list(engine.places.containers.iterdir()) == []
            assert engine.volumes.listed()["Volumes"] == []
            with Store.open(place) as store:
                assert store.pinned.holders() == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that is there for good."""
    made = tmp_path / "root"
    made.mkdir(mode=0o700)
    return made


def filled(root: Path) -> None:
    record(STORE_TOOLS + MAKE, root)


def test_images_that_were_put_are_whole(root: Path) -> None:
    states = try_all(root, STORE_TOOLS + MAKE, assert_whole)
    assert len(states) > 50
    assert any(len(state.promised) == 2 for state in states)


def test_what_is_removed_has_no_rows_before_its_files_go(root: Path) -> None:
    filled(root)
    states = try_all(root, STORE_TOOLS + REMOVE, assert_whole)
    assert any(len(state.promised) == 2 for state in states)


def test_containers_and_what_became_of_them_are_whole(root: Path, tmp_path: Path) -> None:
    states = try_all(root, STORE_TOOLS + CONTAINERS, assert_containers_are_whole, tmp_path / "run")
    assert any(len(state.promised) == 5 for state in states)


def test_a_name_that_was_given_is_there(root: Path) -> None:
    filled(root)
    try_all(root, STORE_TOOLS + TAG, assert_whole)


def test_a_good_copy_that_repairs_is_as_durable_as_what_it_replaces(root: Path) -> None:
    def whole_once_repaired(place: Path, promised: tuple[str, ...]) -> None:
        if "damaged" not in promised or "repaired" in promised:
            assert_whole(place, tuple(line for line in promised if line.startswith("image")))

    states = try_all(root, STORE_TOOLS + REPAIR, whole_once_repaired)
    assert states[-1].promised[-1] == "repaired"


def test_what_a_registry_answered_with_created_is_there(root: Path) -> None:
    def check(place: Path, promised: tuple[str, ...]) -> None:
        rebooted(place)
        with Store.open(place) as store:
            assert verify(store) == []
            for line in promised:
                assert len(store.blobs.read_checked(Digest.parse(line.removeprefix("pushed ")))) >= 5000

    states = try_all(root, STORE_TOOLS + PUSH, check)
    assert len(states[-1].promised) == 2


def test_a_signing_key_is_whole_and_stays(root: Path) -> None:
    def check(place: Path, promised: tuple[str, ...]) -> None:
        (place / "serve").mkdir(exist_ok=True)
        key = load_key(place / "serve" / "token.key")
        assert len(key) >= 32
        assert not promised or promised == (key.hex(),)

    assert try_all(root, KEY, check)[-1].promised


def test_a_file_that_is_replaced_has_the_old_content_or_the_new(root: Path) -> None:
    def check(place: Path, promised: tuple[str, ...]) -> None:
        least = len(promised) - 1
        content = (place / "file").read_bytes() if (place / "file").exists() else b""
        assert content in [b"", *(b"%d" % number * 5000 for number in range(3))][least + 1 : least + 3]

    states = try_all(root, REPLACE, check)
    assert len(states[-1].promised) == 3


@pytest.mark.parametrize("counts", [(1, 2), (17,)], ids=["each synced", "all at once"])
def test_files_of_contexts_are_whole_and_stay(root: Path, counts: tuple[int, ...]) -> None:
    def check(place: Path, promised: tuple[str, ...]) -> None:
        blobs = place / "contexts" / "blobs"
        here = {path.name: path.read_bytes() for path in blobs.iterdir()} if blobs.exists() else {}
        for name, content in here.items():
            assert Digest.of(content).hex == name
        assert set(promised) <= set(here)

    states = try_all(root, CONTEXTS, check, *map(str, counts))
    assert len(states[-1].promised) == sum(counts)


def test_a_backup_appears_whole_and_stays(tmp_path: Path, root: Path) -> None:
    settings = ServiceSettings.from_environ({}, root=str(tmp_path / "service"))
    migrate(settings)
    Service.open(settings).close()  # makes the key
    whole: list[bytes] = []

    def check(place: Path, promised: tuple[str, ...]) -> None:
        path = place / "backup.tar"
        if promised or path.exists():
            with tarfile.open(path) as archive:
                names = archive.getnames()
            assert names[0] == "shiplap-backup.json"
            assert "tables/runs.jsonl" in names
            whole.append(path.read_bytes())

    assert try_all(root, BACKUP, check, settings.root)[-1].promised
    assert whole
    assert set(whole) == {(root / "backup.tar").read_bytes()}
