"""``shiplap image ls``."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from cli.containers.filters import FILTER, read_filters
from cli.declared import Argument, Command, Option
from cli.guarding import tell
from cli.options import FORMAT, JSON
from cli.progress.text import size_text
from cli.store import open_store
from cli.table import age, created_time, print_json, print_table, rfc3339
from core.references import Reference

if TYPE_CHECKING:
    from images.summary import Image


_OPTIONS: Final = (
    Option(("-q", "--quiet"), "Print only IDs.", flag=True),
    Option(("--no-trunc",), "Print IDs in full.", flag=True),
    Option(("--digests",), "With what registries call them.", flag=True),
    Option(("-a", "--all"), "As docker's; all images are always listed.", dest="show_all", flag=True, hidden=True),
    FILTER,
    FORMAT,
    JSON,
)


def list_images(
    root: str | None,
    /,
    *,
    name: str | None,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    show_all: bool,
    filters: Sequence[str],
    form: str,
    as_json: bool,
) -> int:
    """List images.

    NAME selects by name, with * and ? as wildcards. An image for several platforms has a line for each. Filters are
    docker's: before, dangling, label, reference, since, until.

    \b
    shiplap image ls --filter dangling=true --format '{{.ID}} {{.CreatedAt}}'
    """
    del show_all
    wanted = read_filters(filters)
    if form:
        from cli.containers.imagerows import IMAGES  # templates take 10 ms to load

        IMAGES.check(form)
    with open_store(root) as store:
        images = store.images.list()
        if wanted:
            from engine.imagefilters import matching

            images = matching(store, images, wanted)
        if (form or digests) and not quiet:
            from cli.containers.imagerows import IMAGES, WITH_DIGESTS, image_rows

            chosen = [image._replace(names=tuple(filter(None, _names(image, name)))) for image in images]
            shown = [image for image in chosen if image.names or name is None]
            listing = WITH_DIGESTS if digests else IMAGES
            listing.print(image_rows(store, shown, no_trunc=no_trunc), form, whole=no_trunc)
            return 0
    if as_json:
        print_json([_document(image) for image in images if any(True for _ in _names(image, name))])
        return 0
    found = [(image, reference) for image in images for reference in _names(image, name)]
    if quiet:
        ids = dict.fromkeys(str(image.id) if no_trunc else image.id.short for image, _ in found)
        if ids:
            tell("\n".join(ids))
        return 0
    header: tuple[str, ...] = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")
    rows = list(_rows(found, no_trunc=no_trunc, now=time.time()))
    names = [reference for _, reference in found if reference]
    if len(names) > len(set(names)):  # a name stands for several platforms
        header = (*header[:3], "PLATFORM", *header[3:])
        rows = [(*row[:3], str(image.config.platform), *row[3:]) for row, (image, _) in zip(rows, found, strict=True)]
    print_table(header, rows, whole=no_trunc)
    return 0


def _names(image: Image, pattern: str | None) -> Iterator[Reference | None]:
    """The image's names that match; None once for an image without names."""
    if not image.names and pattern is None:
        yield None
    for name in image.names:
        if pattern is None or any(fnmatch.fnmatchcase(text, pattern) for text in (name.familiar, name.familiar_name)):
            yield name


def _rows(found: Iterable[tuple[Image, Reference | None]], *, no_trunc: bool, now: float) -> Iterator[tuple[str, ...]]:
    for image, name in found:
        yield (
            name.familiar_name if name else "<none>",
            (name.tag if name else None) or "<none>",
            str(image.id) if no_trunc else image.id.short,
            age(max(0.0, now - created_time(image))),
            size_text(image.size_bytes),
        )


def _document(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "manifest_digest": image.manifest_digest,
        "names": [name.familiar for name in image.names],
        "platform": str(image.config.platform),
        "created": rfc3339(created_time(image)),
        "size_bytes": image.size_bytes,
    }


declared_command: Final = Command("ls", (Argument("name", "[NAME[:TAG]]", optional=True),), _OPTIONS, list_images)
