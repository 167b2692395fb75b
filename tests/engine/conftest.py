"""An engine on a root that has a busybox image, and a store with an image that nothing can run, for what only looks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from containers.switch import remove_switch
from core.digests import DiffID
from core.platforms import Platform
from core.references import Reference
from engine.engine import Engine
from engine.places import Places
from images.oci import ContainerConfig, ImageConfig
from images.store import Store
from images.summary import Image
from images.tarwriter import TarWriter


def put_image(store: Store, name: str, layers: list[DiffID], **config: object) -> Image:
    """An image of this host's platform. config: members of its container config."""
    document = msgspec.structs.replace(
        ImageConfig.for_platform(Platform.host()),
        config=ContainerConfig(**config),  # type: ignore[arg-type]
    )
    return store.images.put(document, layers, names=[Reference.parse(name)])


def put_busybox(store: Store, tar: Path) -> DiffID:
    """The image ``bb`` of a tar of busybox; its layer."""
    with store.layers.writer() as blob, open(tar, "rb") as file:
        while chunk := file.read(1 << 20):
            blob.write(chunk)
        layer = blob.commit()
    put_image(store, "bb", [layer], env=("PATH=/bin",), cmd=("sh",))
    return layer


def small_layer(store: Store, **files: str) -> DiffID:
    """A layer with these files in its root."""
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        for name, text in sorted(files.items()):
            writer.file(name.encode(), 0o644, 0, 0, 0, len(text), text.encode())
        writer.close()
        return blob.commit()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A root with the image ``app``, whose one file is ``motd``."""
    with Store.open(tmp_path / "root") as store:
        put_image(
            store,
            "app",
            [small_layer(store, motd="hello")],
            cmd=("serve", "--now"),
            env=("PATH=/bin", "LANG=C"),
            labels={"of": "image"},
            stop_signal="SIGINT",
        )
    return Places(tmp_path / "root", tmp_path / "run")


@pytest.fixture
def engine(places: Places) -> Iterator[Engine]:
    """Makes and looks at containers; nothing is started."""
    with Engine(places) as engine:
        yield engine


@pytest.fixture(scope="session")
def busybox_root(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the image ``bb``: a busybox with a user ``app``."""
    root = tmp_path_factory.mktemp("engine") / "root"
    with Store.open(root) as store:
        put_busybox(store, busybox_tar)
    return root


@pytest.fixture
def living(busybox_root: Path, short_path: Path) -> Iterator[Engine]:
    """An engine with a nursery of its own. At its end every container is removed, and the nursery ends."""
    with ended(Engine(Places(busybox_root, short_path / "run"))) as engine:
        yield engine


@contextlib.contextmanager
def ended(engine: Engine) -> Iterator[Engine]:
    """An engine whose containers, volumes, nursery and switch are gone when the block ends."""
    with engine:
        yield engine
        for container in engine.containers(every=True):
            engine.remove(container["Id"], force=True, volumes=True)
        engine.volumes.prune({"all": ["true"]})
        if (engine.places.run / "nursery.sock").exists():
            with engine.keepers.nursery() as nursery:
                nursery.ask("end")
        if (engine.places.run / "switch").exists():
            remove_switch(str(engine.places.run))
