"""``shiplap image diff``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.progress.text import cell_text, size_text
from cli.store import open_store
from cli.table import print_json

if TYPE_CHECKING:
    from images.comparing import ChangedName, ChangedSetting, ComparedFiles
    from images.contents import LayerEntry
    from images.store import Store
    from images.summary import Image

_SIGNS = {"added": "+", "modified": "~", "removed": "-"}


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=1000, help="Paths to list.  [default: 1000]")
@json_option
@click.pass_obj
def command(root: str | None, *, old: str, new: str, limit: int, as_json: bool) -> None:
    """Show what changed from one image to another.

    Packages by the operating system's and languages' databases, files by their content, mode and owner, and settings.
    Times of files do not count: each build sets them anew.
    """
    from builder.attesting.packages.scan import scan
    from images.comparing import compare_files, compare_settings, compare_versions, merged

    with open_store(root) as store:
        images = [store.images.resolve(name) for name in (old, new)]
        files = compare_files(*(merged(_layers(store, image)) for image in images), limit=limit)
        packages = compare_versions(
            *([(each.name, each.version) for each in scan(store, image.diff_ids).packages] for image in images)
        )
    settings = compare_settings(*(image.config for image in images))
    if as_json:
        print_json(_document(images, files, packages, settings))
        return
    size = images[1].size_bytes - images[0].size_bytes
    click.echo(f"size      {'+' if size >= 0 else '-'}{size_text(abs(size))}")
    same = len(set(images[0].diff_ids) & set(images[1].diff_ids))
    click.echo(f"layers    {len(images[0].diff_ids)} and {len(images[1].diff_ids)}, {same} the same")
    click.echo(f"packages  {_counts([each.change for each in packages])}")
    click.echo(f"files     +{files.added} ~{files.modified} -{files.removed}")
    for title, lines in (
        ("Packages", _packages(packages)), ("Settings", _settings(settings)), ("Files", _paths(files)),
    ):  # fmt: skip
        found = list(lines)
        if found:
            click.echo("\n".join(("", f"{title}:", *found)))


def _layers(store: Store, image: Image) -> Iterator[tuple[str, list[LayerEntry]]]:
    from images.contents import read_entries

    for diff_id in image.diff_ids:
        with store.layers.open(diff_id) as file:
            yield diff_id, read_entries(file)


def _counts(changes: Sequence[str]) -> str:
    return " ".join(f"{sign}{changes.count(change)}" for change, sign in _SIGNS.items())


def _packages(found: Sequence[ChangedName]) -> Iterator[str]:
    for each in found:
        versions = " → ".join(", ".join(side) for side in (each.old, each.new) if side)
        yield cell_text(f"{_SIGNS[each.change]} {each.name} {versions}")


def _settings(found: Sequence[ChangedSetting]) -> Iterator[str]:
    for each in found:
        change = "modified" if each.old and each.new else "added" if each.new else "removed"
        values = " → ".join(side for side in (each.old, each.new) if side)
        yield cell_text(f"{_SIGNS[change]} {each.name} {values}")


def _paths(found: ComparedFiles) -> Iterator[str]:
    for each in found.paths:
        what = f"  ({', '.join(each.what)})" if each.what else ""
        yield cell_text(f"{_SIGNS[each.change]} /{each.path}{what}")
    if found.hidden:
        yield f"  and {found.hidden} more: --limit shows them"


def _document(
    images: Sequence[Image], files: ComparedFiles, packages: Sequence[ChangedName], settings: Sequence[ChangedSetting]
) -> dict[str, Any]:
    return {
        "old": {"id": images[0].id, "size_bytes": images[0].size_bytes, "layers": list(images[0].diff_ids)},
        "new": {"id": images[1].id, "size_bytes": images[1].size_bytes, "layers": list(images[1].diff_ids)},
        "packages": [{"name": each.name, "old": list(each.old), "new": list(each.new)} for each in packages],
        "settings": [{"name": each.name, "old": each.old, "new": each.new} for each in settings],
        "files": {
            "added": files.added, "modified": files.modified, "removed": files.removed,
            "size_change_bytes": files.size_change, "hidden": files.hidden,
            "paths": [
                {"path": each.path, "change": each.change, "kind": each.kind, "what": list(each.what),
                 "old_size_bytes": each.old_size, "new_size_bytes": each.new_size}
                for each in files.paths
            ],
        },
    }  # fmt: skip
