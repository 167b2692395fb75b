"""The built-in registry's images in a backup: ``registry.json``, and ``images/<hex>`` for each manifest and blob."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final

import msgspec

from core.cancellation import check
from core.digests import Digest
from pipelines.errors import BackupError
from pipelines.owning.ownership import OUTPUTS

if TYPE_CHECKING:
    from core.settings import ServiceSettings
    from registry.server.portable import PortableRepository
    from registry.server.registry import Registry

LIST: Final = "registry.json"
_DIRECTORY: Final = "images"
_PIECE_BYTES: Final = 1 << 20


def write_images(archive: tarfile.TarFile, settings: ServiceSettings) -> None:
    """Add all images of now. Raises StorageFullError, and BackupError when somebody removes one before the end."""
    import io

    from registry.server.portable import list_repositories

    with _registry(settings) as registry:
        repositories = list_repositories(registry)
        data = msgspec.json.encode(repositories)
        member = tarfile.TarInfo(LIST)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
        for content in sorted({content for repository in repositories for content in repository.contents()}):
            try:
                with registry.content.path(content).open("rb") as file:
                    archive.addfile(archive.gettarinfo(arcname=f"{_DIRECTORY}/{content.hex}", fileobj=file), file)
            except FileNotFoundError as error:
                raise BackupError("an image was removed while it was saved", hint="save again") from error


def read_images(archive: tarfile.TarFile, settings: ServiceSettings) -> None:
    """Add a backup's images to the registry, whose own images stay; tags that both have are the backup's.

    Raises BackupError, StorageFullError.
    """
    from registry.server.errors import SpecError
    from registry.server.portable import PortableRepository, add_content, add_manifest, add_rules

    repositories = msgspec.json.decode(_opened(archive, LIST).read(), type=list[PortableRepository])
    with _registry(settings) as registry:
        try:
            for content in sorted(_blobs(repositories)):
                add_content(registry, repositories, content, _opened(archive, f"{_DIRECTORY}/{content.hex}"))
            for repository in repositories:
                for manifest in repository.manifests:
                    data = _opened(archive, f"{_DIRECTORY}/{Digest(manifest.content).hex}").read()
                    add_manifest(registry, repository.name, manifest, data)
                add_rules(registry, repository)
        except SpecError as error:
            raise BackupError(f"the backup's images are damaged: {error}") from error


def check_images(archive: tarfile.TarFile) -> int:
    """Check that all images of a backup are whole; returns how many manifests. Raises BackupError, KeyError."""
    from registry.server.portable import PortableRepository

    repositories = msgspec.json.decode(_opened(archive, LIST).read(), type=list[PortableRepository])
    for content in sorted({content for repository in repositories for content in repository.contents()}):
        hashed, stream = hashlib.new(content.algorithm), _opened(archive, f"{_DIRECTORY}/{content.hex}")
        while piece := stream.read(_PIECE_BYTES):
            check()
            hashed.update(piece)
        if hashed.hexdigest() != content.hex:
            raise BackupError(f"{_DIRECTORY}/{content.hex} in the backup is damaged: its content has another digest")
    return sum(len(repository.manifests) for repository in repositories)


def _blobs(repositories: list[PortableRepository]) -> set[Digest]:
    return {Digest(blob.content) for repository in repositories for blob in repository.blobs}


def _opened(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} in the backup is no file")
    return file


@contextlib.contextmanager
def _registry(settings: ServiceSettings) -> Iterator[Registry]:
    from images.store import Store
    from registry.server.registry import Registry
    from registry.server.settings import ServerSettings

    with (
        Store.open(settings.root) as store,
        contextlib.closing(Registry(store, ServerSettings(access="users", hidden=f"{OUTPUTS}/"))) as made,
    ):
        yield made
