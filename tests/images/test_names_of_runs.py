"""Names that runs give are for people: they name nothing for builds, and take no name that the administrator gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.platforms import Platform
from core.references import Reference
from core.trust import of_fork, protected
from images.errors import ImageNotFoundError
from images.oci import ImageConfig
from images.store import Store
from images.summary import Image

APP = Reference.parse("app:1")
DOMAINS = [protected("shop"), of_fork("shop", 1)]


def put(store: Store, content: bytes, *names: Reference) -> Image:
    with store.layers.writer() as writer:
        writer.write(content.ljust(1024, b"\0"))
        diff_id = writer.commit()
    return store.images.put(ImageConfig.for_platform(Platform.host()), [diff_id], names=names)


def test_name_that_a_run_gave_is_shown_and_means_nothing_to_builds(tmp_path: Path) -> None:
    with Store.open(tmp_path) as run:
        run.act_for(protected("shop"))
        image = put(run, b"a", APP)
        assert run.images.given(APP) is None
    with Store.open(tmp_path) as host:
        assert host.images.resolve("app:1").id == image.id
        assert host.images.list()[0].names == (APP,)
        with pytest.raises(ImageNotFoundError):
            host.images.resolve_base("app:1")
        with pytest.raises(ImageNotFoundError):
            host.lookup.of_base("app:1")
        host.images.tag(APP, image.id)
        assert host.images.resolve_base("app:1").id == image.id
    for domain in DOMAINS:
        with Store.open(tmp_path) as other:
            other.act_for(domain)
            assert other.images.given(APP) is not None


def test_run_takes_no_name_that_the_administrator_gave(tmp_path: Path) -> None:
    with Store.open(tmp_path) as host:
        own = put(host, b"own", APP)
        with Store.open(tmp_path) as run:
            run.act_for(protected("shop"))
            put(run, b"other", APP)
            theirs = put(run, b"third")
            run.images.tag(APP, theirs.id)
        assert host.images.resolve("app:1").id == own.id
        host.images.tag(APP, theirs.id)  # the administrator may
        assert host.images.resolve_base("app:1").id == theirs.id


def test_layers_are_here_for_who_wrote_or_was_given_them(tmp_path: Path) -> None:
    with Store.open(tmp_path) as run, Store.open(tmp_path) as other, Store.open(tmp_path) as host:
        run.act_for(protected("shop"))
        other.act_for(protected("shop"))  # only a record, or the registry, says what it may have
        image = put(run, b"a")
        assert [store.layers.has(image.diff_ids[0]) for store in (run, other, host)] == [True, False, True]
        assert other.layers.missing(image.diff_ids) == list(image.diff_ids)
        host.images.tag(APP, image.id)
        assert other.images.given(APP) == host.images.get(image.id)._replace(names=(APP,))
        assert other.layers.has(image.diff_ids[0])


@pytest.mark.parametrize("domain", DOMAINS)
def test_digest_pins_what_the_administrator_named_and_nothing_else(tmp_path: Path, domain: object) -> None:
    with Store.open(tmp_path) as host:
        named, bare = put(host, b"named", APP), put(host, b"bare")
        host.images.note_digest(APP, bare.manifest_digest, bare.id)
        with Store.open(tmp_path) as run:
            run.act_for(domain)  # type: ignore[arg-type]
            found = run.images.given(Reference.parse(f"app@{named.manifest_digest}"))
            assert found is not None
            assert found.id == named.id
            assert run.images.given(Reference.parse(f"app@{bare.manifest_digest}")) is None
            assert run.images.given(Reference.parse(f"other@{named.manifest_digest}")) is None
