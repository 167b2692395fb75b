"""Where a finished image goes besides the store: archives, a tar or a directory of its files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from builder.errors import OutputError
from builder.request import Output
from core.files import replacing, storage_errors
from images.images import Image
from images.store import Store


def export(store: Store, image: Image, output: Output) -> None:
    """Put the image out. A file appears whole or not at all. Raises OutputError, StorageFullError."""
    if output.type == "local":
        _write_tree(store, image, output.dest)
    else:
        with _opened(output.dest) as sink:
            if output.type == "tar":
                _write_tar(store, image, sink)
            else:
                _write_archive(store, image, output, sink)


def _write_archive(store: Store, image: Image, output: Output, sink: BinaryIO) -> None:
    from images.archive import SavedImage, save

    # As BuildKit: an OCI layout is for registries and has compressed layers; docker unpacks its archives at once.
    save(store, [SavedImage(image, output.names)], sink, compression="gzip" if output.type == "oci" else "none")


def _write_tar(store: Store, image: Image, sink: BinaryIO) -> None:
    from images.flatten import write_merged
    from images.tarwriter import TarWriter

    with contextlib.ExitStack() as stack:
        layers = [stack.enter_context(store.layers.open(diff_id)) for diff_id in image.diff_ids]
        writer = TarWriter(sink)
        write_merged(layers, writer)
        writer.close()


def _write_tree(store: Store, image: Image, dest: str) -> None:
    from images.flatten import unpack_merged

    with contextlib.ExitStack() as stack, storage_errors(dest), _output_errors(dest):
        os.makedirs(dest, exist_ok=True)
        root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        layers = [stack.enter_context(store.layers.open(diff_id)) for diff_id in image.diff_ids]
        # As buildx: the files belong to who asked for them.
        unpack_merged(layers, root, owners=False, devices=os.geteuid() == 0)


@contextlib.contextmanager
def _opened(dest: str) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well; ``-`` is standard output."""
    if dest == "-":
        if sys.stdout.isatty():
            raise OutputError(
                "refusing to write an archive to a terminal", hint="redirect it, or name a file with dest="
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(dest)
    if path.is_dir():
        raise OutputError(f"cannot write {dest}: it is a directory", hint="name a file: dest=image.tar")
    with _output_errors(dest), replacing(path) as file:
        yield file


@contextlib.contextmanager
def _output_errors(dest: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, PermissionError, FileExistsError) as error:
        raise OutputError(f"cannot write {dest}: {error.strerror}", hint="check the directory in dest=") from error
