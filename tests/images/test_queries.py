"""What is done with one image or one step asks the database through indexes: it takes no longer in a full store."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.layers import Origin
from images.oci import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, ImageConfig, Index, OciPlatform
from images.records import CacheRecord
from images.store import Store

ARM = Platform.parse("linux/arm64")
SPARED = {"SELECT DISTINCT session FROM leases"}  # of the processes that run at the moment


def full_scans(database: Path, statement: str) -> list[str]:
    """The tables that SQLite goes through from end to end for this statement."""
    if statement.split(maxsplit=1)[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        return []
    connection = sqlite3.connect(database)
    try:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    finally:
        connection.close()
    inner = {detail.split()[1] for detail in plan if detail.startswith(("CO-ROUTINE", "MATERIALIZE"))}
    scans = [detail for detail in plan if re.match(r"SCAN (?!(\d+ )?CONSTANT ROW)", detail)]
    return [detail for detail in scans if detail.split()[1] not in inner]


def work_with_one_of_everything(store: Store) -> None:
    """What builds, and commands on a single image, do."""
    images, cache = store.images, store.cache
    with store.layers.writer(sync=False) as writer:
        writer.write(b"content")
        layer = writer.commit()
    record = CacheRecord("key", "op", layer, 1.0, 0.5, "RUN true", b"")
    cache.put(record)
    cache.get("key")
    cache.results(["key"])
    cache.has_op("op")
    cache.siblings(record)
    cache.latest_for(before=2.0, op="op")
    cache.latest_for(before=2.0, description="RUN true")
    cache.memo_put("kind", "key", b"data")
    cache.memo_get("kind", "key")
    store.snapshots.adopt(store.snapshots.new_upper(), layer, ())
    store.layers.has(layer)
    store.layers.compressed(layer, "gzip")
    store.layers.original(layer)
    blob = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(b"blob"), size=4)
    store.layers.note_origins([Origin(layer, blob, "ci:5000/app")])
    store.layers.origin(layer)
    made = images.put(ImageConfig.for_platform(ARM), [layer], names=[Reference.parse("app")])
    images.note_digest(Reference.parse("ci:5000/app"), made.manifest_digest, made.id)
    entry = Descriptor(
        media_type=OCI_MANIFEST,
        digest=made.manifest_digest,
        size=store.blobs.size(made.manifest_digest),
        platform=OciPlatform.of(ARM),
    )
    index = images.indexes.put(Index(schema_version=2, manifests=(entry,)), names=[Reference.parse("multi")])
    images.tag(Reference.parse("other"), made.id)
    for text in ("app", made.id, made.id.hex[:6], f"multi@{made.manifest_digest}", f"multi@{index.digest}"):
        images.resolve(text)
    images.resolve(f"ci:5000/app@{made.manifest_digest}")
    images.history(made)
    images.digests(made.id)
    store.lookup.is_named(Reference.parse("app"), made.id)
    store.lookup.manifest_of(made.id)
    images.remove("other")
    images.remove("multi")


def test_nothing_that_is_done_with_one_image_goes_through_a_table(tmp_path: Path) -> None:
    asked: set[str] = set()
    store = Store.open(tmp_path)
    store.database._connection.set_trace_callback(asked.add)
    work_with_one_of_everything(store)
    store.close()
    assert len(asked) > 50
    scans = {statement: full_scans(tmp_path / "store.db", statement) for statement in asked - SPARED}
    assert {statement: found for statement, found in scans.items() if found} == {}
