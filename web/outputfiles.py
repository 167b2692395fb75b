"""Files of outputs for people, as they are sent: read from the store of this host while they go out."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import re
import time
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple, Self
from urllib.parse import quote

from ci.downloads import Format, NoSuchFileError, OutputFile, archived, listed, opened_file
from core.digests import Digest
from images.errors import ImagesError
from images.oci import Descriptor
from images.store import Store
from pipelines.errors import NotFoundError
from pipelines.runs.outputs import FoundOutput
from registry.server.errors import SpecError
from web.backing import registry, service
from web.calls import Streamed

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SANDBOX: Final = "sandbox; default-src 'none'"
"""Whatever a browser makes of a file, no script of it runs, and it sees nobody's session."""


class Opened:
    """An output that is read. Its layer stays as long as this is open.

    Made by: ``opened``. Ended by: ``close``, or the end of what was made of it. Threads: one.
    """

    def __init__(self, found: FoundOutput) -> None:
        """Raises NotFoundError when its files are not here."""
        self.found = found
        if found.view.until < time.time():
            raise NotFoundError(f"the output {found.view.name} of run {found.run} was kept for its time, which is over")
        with contextlib.ExitStack() as stack:
            # A session of its own, that ends with this: it keeps the layer from being pruned.
            store = stack.enter_context(Store.open(service().settings.root))
            try:
                _bring(store, found)
                self.tar: BinaryIO = stack.enter_context(store.layers.open(found.layer))
            except ImagesError as error:  # the disk was cleared by hand; or what was sent is damaged
                raise NotFoundError(
                    f"the files of output {found.view.name} of run {found.run} cannot be read: {error.message}",
                    hint="retry the job: it outputs them anew",
                ) from error
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()


def _bring(store: Store, found: FoundOutput) -> None:
    """Have the layer in the store: from the registry beside it, where it is on another host. Raises NotFoundError."""
    if store.layers.has(found.layer):
        return
    at = service().artifacts.output(found.run, found.place, found.view.name)
    if at is None or at.content != found.layer:
        hint = "its worker sends them to the service's registry once the job has ended: try again in a moment"
        raise NotFoundError(f"the files of output {found.view.name} of run {found.run} are not on this host", hint=hint)
    content, blob = registry().content, Digest.parse(at.blob)
    expected = Descriptor(media_type=at.media_type, digest=blob, size=at.size)
    try:
        with store.layers.fetching(found.layer) as is_here:
            if not is_here:
                with content.open(content.find(at.repository, blob)) as file:
                    store.layers.import_compressed(file, diff_id=found.layer, expected=expected, sync=False)
    except SpecError:
        raise NotFoundError(f"the files of output {found.view.name} of run {found.run} are not kept any more") from None


class _Pieces:
    """Pieces that close what they are read from, whether they were read or not: a generator would not."""

    def __init__(self, opened: Opened, pieces: Iterator[bytes]) -> None:
        self._opened = opened
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._opened.close()


class Shown(NamedTuple):
    """Some of the files of a directory. of: how many it has."""

    files: list[OutputFile]
    of: int


def files_of(found: FoundOutput, below: str, after: int, most: int) -> list[OutputFile]:
    """What lies below a directory of an output, at any depth. after: so many are passed over. Raises NotFoundError."""
    with Opened(found) as opened:
        return list(itertools.islice(listed(opened.tar, below), after, after + most))


def files_in(found: FoundOutput, directory: str, most: int) -> Shown:
    """What is right in a directory of an output: directories first, then by name; at most so many are held in memory.

    Raises NotFoundError when its files are not here.
    """
    depth = directory.count("/") + 1 if directory else 0
    count = 0

    def right_in(tar: BinaryIO) -> Iterator[OutputFile]:
        nonlocal count
        for file in listed(tar, directory):
            if file.path.count("/") == depth:
                count += 1
                yield file

    with Opened(found) as opened:
        files = heapq.nsmallest(most, right_in(opened.tar), key=lambda file: (file.kind != "directory", file.path))
    return Shown(files, count)


def sent_file(found: FoundOutput, path: str) -> Streamed:
    """One file, to be saved. Raises NotFoundError."""
    opened = Opened(found)
    try:
        size, pieces = opened_file(opened.tar, path)
    except NoSuchFileError as error:
        opened.close()
        raise NotFoundError(error.message, hint=error.hint) from error
    except BaseException:
        opened.close()
        raise
    headers = _headers(path.rstrip("/").rpartition("/")[2]) | {"Content-Length": str(size)}
    return Streamed(_Pieces(opened, pieces), headers)


def beginning(found: FoundOutput, path: str, most: int) -> tuple[str, bool]:
    """The first bytes of a file as text, and whether there are more. Raises NotFoundError."""
    with Opened(found) as opened:
        try:
            size, pieces = opened_file(opened.tar, path)
        except NoSuchFileError as error:
            raise NotFoundError(error.message, hint=error.hint) from error
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) >= most:
                break
    return data[:most].decode(errors="replace"), size > most


def entry_of(found: FoundOutput) -> str:
    """The file by which an output is opened: the page called index nearest to the top, or the one file that there is.

    Empty: there is none. Raises NotFoundError.
    """
    nearest, only, count = "", "", 0
    with Opened(found) as opened:
        for file in listed(opened.tar):
            if file.kind == "directory":
                continue
            count += 1
            only = file.path
            is_page = file.path.rpartition("/")[2] in ("index.html", "index.htm")
            if is_page and (not nearest or file.path.count("/") < nearest.count("/")):
                nearest = file.path
    return nearest or (only if count == 1 else "")


def sent_archive(found: FoundOutput, form: Format) -> Streamed:
    """All of an output. Raises NotFoundError."""
    opened = Opened(found)
    return Streamed(_Pieces(opened, archived(opened.tar, form, found.at)), _headers(f"{found.view.name}.{form}"))


def _headers(name: str) -> dict[str, str]:
    plain = name if _PLAIN.fullmatch(name) else "file"
    encoded = quote(name, safe="", errors="replace")
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}",
        "Content-Security-Policy": _SANDBOX,
    }
