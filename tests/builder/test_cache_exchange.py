"""--cache-to and --cache-from: what one machine has built, another need not build again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.cacheio.document import CACHE_ARTIFACT, CACHE_CONFIG, decode_records
from builder.errors import CacheExportError, CacheFormatError
from core.digests import Digest
from core.events import StepFinished
from core.references import Reference
from registry.client import push
from tests.builder import cache_tools
from tests.builder.cache_tools import TWO, Machine, Machines
from tests.builder.test_build import built
from tests.toolkit.faulty import Relay, RelayFault
from tests.toolkit.registries import DebianRegistry

pytestmark = pytest.mark.usefixtures("privileged")
make, registry, watched = cache_tools.make, cache_tools.registry, cache_tools.watched

ONE = "FROM base\nRUN echo tools > /tools\nCOPY f /f\nRUN cat /tools /f > /out\n"


def transfers(seen: Relay, method: str = "GET") -> list[str]:
    """Requests for blobs or manifests, by what they ask for."""
    return [s.path.rpartition("/v2/")[2] for s in seen.seen if s.method == method and s.path != "/v2/"]


def layout_blobs(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs" / "sha256").iterdir()}


def manifest_of(directory: Path) -> dict[str, Any]:
    index = json.loads((directory / "index.json").read_text())
    (entry,) = index["manifests"]
    found: dict[str, Any] = json.loads((directory / "blobs" / "sha256" / entry["digest"][7:]).read_text())
    return found


# Directories


def test_another_machine_runs_nothing_and_makes_the_same_layers(make: Machines, tmp_path: Path) -> None:
    one, two = make("one"), make("two")
    first = one.run(ONE, cache_to=(f"type=local,dest={tmp_path}/cache",))
    second = two.run(ONE, cache_from=(f"type=local,src={tmp_path}/cache",))
    assert (first.executed, second.executed, second.cached) == (3, 0, 3)
    assert built(second).diff_ids == built(first).diff_ids
    assert two.read(built(second), "out") == "tools\nfile\n"
    assert two.outcomes_of(ONE) == (0, 3)  # by now it has them itself


@pytest.mark.parametrize("mode", ["min", "max"])
def test_steps_of_other_stages_are_answered_without_their_layers(make: Machines, tmp_path: Path, mode: str) -> None:
    one, two = make("one"), make("two")
    one.run(TWO, cache_to=(f"type=local,dest={tmp_path}/cache,mode={mode}",))
    layers = len(manifest_of(tmp_path / "cache")["layers"])
    assert layers == {"min": 3, "max": 6}[mode]
    assert two.outcomes_of(TWO, cache_from=(f"type=local,src={tmp_path}/cache",)) == (0, 6)
    assert set(two.internal_steps()) == {f"import the cache {tmp_path}/cache"}, "one row reads and fetches"


def test_mode_max_answers_what_changed_steps_build_on(make: Machines, tmp_path: Path) -> None:
    make("one").run(TWO, cache_to=(f"type=local,dest={tmp_path}/cache,mode=max",))
    (tmp_path / "context" / "f").write_text("other\n")
    two = make("two")
    assert two.outcomes_of(TWO, cache_from=(f"type=local,src={tmp_path}/cache",)) == (4, 2)
    assert two.seen.output() == "tools\nother\n"


def test_mode_min_builds_again_what_changed_steps_build_on(make: Machines, tmp_path: Path) -> None:
    make("one").run(TWO, cache_to=(f"type=local,dest={tmp_path}/cache,mode=min",))
    (tmp_path / "context" / "f").write_text("other\n")
    two = make("two")
    assert two.outcomes_of(TWO, cache_from=(f"type=local,src={tmp_path}/cache",)) == (5, 1)
    assert two.seen.output() == "tools\nother\n"
    assert not two.warnings()


def test_cache_is_not_read_while_the_store_answers(make: Machines, tmp_path: Path) -> None:
    one = make("one")
    one.run(ONE)
    assert one.outcomes_of(ONE, cache_from=(f"type=local,src={tmp_path}/nothing-there",)) == (0, 3)
    assert one.internal_steps() == []


def test_first_cache_that_has_an_answer_gives_it(make: Machines, tmp_path: Path) -> None:
    make("one").run("FROM base\nRUN date +%s%N > /when\n", cache_to=(f"type=local,dest={tmp_path}/a",))
    first = make("two").run("FROM base\nRUN date +%s%N > /when\n", cache_to=(f"type=local,dest={tmp_path}/b",))
    sources = (f"type=local,src={tmp_path}/b", f"type=local,src={tmp_path}/a")
    result = make("three").run("FROM base\nRUN date +%s%N > /when\n", cache_from=sources)
    assert built(result).diff_ids == built(first).diff_ids


def test_cache_from_one_place_is_passed_on_to_another(make: Machines, tmp_path: Path) -> None:
    make("one").run(TWO, cache_to=(f"type=local,dest={tmp_path}/a,mode=max",))
    passing: dict[str, Any] = {
        "cache_from": (f"type=local,src={tmp_path}/a",),
        "cache_to": (f"type=local,dest={tmp_path}/b,mode=max",),
    }
    assert make("two").outcomes_of(TWO, **passing) == (0, 6)
    assert manifest_of(tmp_path / "a") == manifest_of(tmp_path / "b")


def test_new_cache_takes_the_place_of_the_old_with_all_that_only_it_had(make: Machines, tmp_path: Path) -> None:
    one, target = make("one"), f"type=local,dest={tmp_path}/cache"
    one.run("FROM base\nRUN echo 1 > /1\n", cache_to=(target, f"{target},tag=kept"))
    before = layout_blobs(tmp_path / "cache")
    one.run("FROM base\nRUN echo 2 > /2\n", cache_to=(target,))
    assert before < layout_blobs(tmp_path / "cache")  # the other tag still needs them
    one.run("FROM base\nRUN echo 2 > /2\n", cache_to=(f"{target},tag=kept",))
    assert not before & layout_blobs(tmp_path / "cache")
    source = f"type=local,src={tmp_path}/cache,tag=kept"
    assert make("two").outcomes_of("FROM base\nRUN echo 2 > /2\n", cache_from=(source,)) == (0, 1)


@pytest.mark.parametrize("how", ["gzip", "zstd", "uncompressed"])
def test_layers_have_the_compression_that_was_asked_for(make: Machines, tmp_path: Path, how: str) -> None:
    make("one").run(ONE, cache_to=(f"type=local,dest={tmp_path}/cache,compression={how}",))
    ending = {"gzip": ".tar+gzip", "zstd": ".tar+zstd", "uncompressed": ".tar"}[how]
    assert all(layer["mediaType"].endswith(ending) for layer in manifest_of(tmp_path / "cache")["layers"])
    assert make("two").outcomes_of(ONE, cache_from=(f"type=local,src={tmp_path}/cache",)) == (0, 3)


def test_cache_is_an_oci_artifact_with_records_of_hashes(make: Machines, tmp_path: Path) -> None:
    make("one").run(
        "FROM base\nARG PASSWORD\nENV KEY=topsecret\nRUN true\n",
        build_args={"PASSWORD": "hunter2"},
        cache_to=(f"type=local,dest={tmp_path}/cache,mode=max",),
    )
    manifest = manifest_of(tmp_path / "cache")
    assert manifest["artifactType"] == CACHE_ARTIFACT
    assert manifest["config"]["mediaType"] == CACHE_CONFIG
    config = (tmp_path / "cache" / "blobs" / "sha256" / manifest["config"]["digest"][7:]).read_text()
    assert "hunter2" not in config
    assert "topsecret" not in config
    (record,) = json.loads(config)["records"]
    assert set(record) == {"key", "op", "diffID", "created", "duration", "description"}


def test_cache_that_cannot_be_written_is_an_error_unless_that_is_to_be_ignored(make: Machines, tmp_path: Path) -> None:
    one = make("one")
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheExportError, match="cannot write a cache"):
        one.run(ONE, cache_to=(f"type=local,dest={tmp_path}/file",))
    one.run(ONE, cache_to=(f"type=local,dest={tmp_path}/file,ignore-error=true",))
    assert "was not exported" in one.warnings()[0]


# What is broken or hostile


def test_cache_that_is_not_there_is_a_warning(make: Machines, tmp_path: Path) -> None:
    one = make("one")
    assert one.outcomes_of(ONE, cache_from=(f"type=local,src={tmp_path}/none", "127.0.0.1:1/no/cache")) == (3, 0)
    assert ["there is no cache in" in warning for warning in one.warnings()] == [True, False]


@pytest.mark.parametrize("fault", ["missing", "damaged", "swapped"])
def test_layer_that_cannot_be_had_is_built_instead(make: Machines, tmp_path: Path, fault: str) -> None:
    make("one").run(ONE, cache_to=(f"type=local,dest={tmp_path}/cache",))
    layers = manifest_of(tmp_path / "cache")["layers"]
    paths = [tmp_path / "cache" / "blobs" / "sha256" / layer["digest"][7:] for layer in layers]
    if fault == "missing":
        paths[0].unlink()
    elif fault == "damaged":
        paths[0].write_bytes(b"\0" + paths[0].read_bytes()[1:])
    else:
        shutil.copy(paths[1], paths[0])
    two = make("two")
    result = two.run(ONE, cache_from=(f"type=local,src={tmp_path}/cache",))
    assert result.executed > 0
    assert two.read(built(result), "out") == "tools\nfile\n"
    assert ["is broken" in warning for warning in two.warnings()] == [True]


HOSTILE_RECORDS: dict[str, Any] = {
    "no JSON": b"{",
    "no records": {},
    "a key that is a path": {"key": "../../etc"},
    "no digest": {"diffID": "sha256:xyz"},
    "a time that is none": {"created": -1},
    "a time beyond all calendars": {"created": 1e300},
    "a description without end": {"description": "x" * 100_000},
    "words for numbers": {"duration": "long"},
}


@pytest.mark.parametrize("what", HOSTILE_RECORDS)
def test_records_that_are_none_are_refused(what: str) -> None:
    change = HOSTILE_RECORDS[what]
    record = {"key": "a" * 64, "op": "b" * 64, "diffID": f"sha256:{'c' * 64}", "description": "RUN true"}
    times = {"created": 1.5, "duration": 2.0}
    assert len(decode_records(json.dumps({"records": [{**record, **times}]}).encode())) == 1
    changed = {"records": [{**record, **times, **change}]} if isinstance(change, dict) and change else {}
    with pytest.raises(CacheFormatError):
        decode_records(change if isinstance(change, bytes) else json.dumps(changed).encode())


def test_cache_with_records_that_are_none_is_not_used(make: Machines, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    make("one").run(ONE, cache_to=(f"type=local,dest={cache}",))
    replace_config(cache, b'{"records": [{"key": "../../etc"}]}')
    two = make("two")
    assert two.outcomes_of(ONE, cache_from=(f"type=local,src={cache}",)) == (3, 0)
    assert len(two.warnings()) == 1


def replace_config(cache: Path, data: bytes) -> None:
    """Give the only cache of the layout another config, with all digests as they should be."""
    manifest = manifest_of(cache)
    manifest["config"].update(digest=Digest.of(data), size=len(data))
    index = json.loads((cache / "index.json").read_text())
    text = json.dumps(manifest).encode()
    index["manifests"][0].update(digest=Digest.of(text), size=len(text))
    for blob in (data, text):
        (cache / "blobs" / "sha256" / Digest.of(blob).hex).write_bytes(blob)
    (cache / "index.json").write_text(json.dumps(index))


# Registries


def test_cache_goes_through_a_registry(make: Machines, registry: DebianRegistry) -> None:
    name = f"{registry.host}/cache/plain:main"
    make("one").run(TWO, cache_to=(f"type=registry,ref={name},mode=max",))
    assert make("two").outcomes_of(TWO, cache_from=(name,)) == (0, 6)


def test_layers_are_fetched_only_when_they_are_needed(make: Machines, watched: Relay) -> None:
    name = f"{watched.host}/cache/lazy"
    make("one").run(TWO, cache_to=(f"type=registry,ref={name},mode=max",))
    watched.seen.clear()
    make("two").run(TWO, cache_from=(f"type=registry,ref={name}",))
    asked = transfers(watched)
    assert len([path for path in asked if "/manifests/" in path]) == 1
    assert len([path for path in asked if "/blobs/" in path]) == 1 + 3  # the records, and the layers of the image


def test_unchanged_cache_is_not_sent_again(make: Machines, watched: Relay) -> None:
    one, target = make("one"), f"type=registry,ref={watched.host}/cache/same,mode=max"
    one.run(TWO, cache_to=(target,))
    watched.seen.clear()
    assert one.outcomes_of(TWO, cache_to=(target,)) == (0, 6)
    assert [s.method for s in watched.seen if s.path != "/v2/"] == ["HEAD"]
    assert [event.reason for event in one.seen.events if isinstance(event, StepFinished)][-1] == "up to date"


def test_layers_that_the_registry_has_are_not_sent_and_not_fetched(make: Machines, watched: Relay) -> None:
    make("one").run(TWO, cache_to=(f"type=registry,ref={watched.host}/cache/first,mode=max",))
    watched.seen.clear()
    passing: dict[str, Any] = {"cache_from": (f"{watched.host}/cache/first",)}
    make("two").run(TWO, cache_to=(f"type=registry,ref={watched.host}/cache/second,mode=max",), **passing)
    assert all("mount=" in path for path in transfers(watched, "POST"))
    assert len([path for path in transfers(watched) if "/blobs/" in path]) == 1 + 3


def test_layer_that_the_registry_has_lost_is_built_instead(make: Machines, watched: Relay) -> None:
    one, name = make("one"), f"{watched.host}/cache/lost"
    image = built(one.run(ONE, cache_to=(f"type=registry,ref={name}",)))
    lost = one.store.layers.compressed(image.diff_ids[-1], "gzip").digest
    watched.faults.append(RelayFault(f"GET .*/blobs/{lost}", 404))
    two = make("two")
    assert two.outcomes_of(ONE, cache_from=(name,)) == (1, 2)
    assert "is broken" in two.warnings()[0]


def test_what_a_lost_layer_led_to_is_forgotten(make: Machines, watched: Relay, tmp_path: Path) -> None:
    """What is built instead is another layer; of the first answers, which named steps above it, nothing stays."""
    text = "FROM base\nRUN head -c 16 /dev/urandom | md5sum > /a\nRUN cat /a > /b\n"
    one, name = make("one"), f"{watched.host}/cache/forgotten"
    first = built(one.run(text, cache_to=(f"type=registry,ref={name},mode=max",)))
    lost = one.store.layers.compressed(first.diff_ids[-2], "gzip").digest
    watched.faults.append(RelayFault(f"GET .*/blobs/{lost}", 404))
    two, cache = make("two"), f"{tmp_path}/again"
    second = two.run(text, cache_from=(name,), cache_to=(f"type=local,dest={cache},mode=max",))
    assert (second.executed, second.cached) == (2, 0)
    assert not set(built(second).diff_ids[-2:]) & set(first.diff_ids)
    assert len(manifest_of(tmp_path / "again")["layers"]) == 2
    three = make("three")
    assert three.outcomes_of(text, cache_from=(f"type=local,src={cache}",)) == (0, 2)
    assert three.read(built(three.run(text)), "b") == two.read(built(second), "a")


def test_inline_cache_travels_with_the_image(make: Machines, registry: DebianRegistry) -> None:
    one, name = make("one"), Reference.parse(f"{registry.host}/inline/app:1")
    result = one.run(TWO, cache_to=("type=inline",))
    with one.connect() as client:
        push(name, one.store, client=client, image=result.image)
    two = make("two")
    assert two.outcomes_of(TWO, cache_from=(str(name),)) == (0, 6)
    # The cache is this image's: what is built on it, without asking for one, has none.
    child = built(one.run("FROM built\nRUN echo more > /more\n"))
    assert not child.config.extra


def test_build_arg_of_buildkit_asks_for_an_inline_cache(make: Machines) -> None:
    one = make("one")
    result = one.run(ONE, build_args={"BUILDKIT_INLINE_CACHE": "1"})
    assert "shiplap.cache.v1" in built(result).config.extra
    assert not one.warnings()


def test_image_without_a_cache_is_said_to_be_one(make: Machines, registry: DebianRegistry) -> None:
    one, name = make("one"), Reference.parse(f"{registry.host}/plain/app:1")
    result = one.run(ONE)
    with one.connect() as client:
        push(name, one.store, client=client, image=result.image)
    two = make("two")
    assert two.outcomes_of(ONE, cache_from=(str(name),)) == (3, 0)
    assert "an image without a cache" in two.warnings()[0]


# What runs although the cache has it


def test_no_cache_filter_runs_the_stages_that_it_names(make: Machines) -> None:
    one = make("one")
    one.run(TWO)
    assert one.outcomes_of(TWO, no_cache_stages=("build",)) == (3, 3)
    assert one.outcomes_of(TWO, no_cache_stages=("stage-1",)) == (3, 3)
    assert one.outcomes_of(TWO, no_cache_stages=("biuld",)) == (0, 6)
    assert one.warnings() == ["--no-cache-filter biuld: no stage has this name"]


def test_stage_that_runs_again_and_gives_the_same_lets_the_rest_stay_cached(make: Machines) -> None:
    text = TWO.replace("> /out\n", "> /out; touch -t 202001010000 /out\n").replace(
        "> /tools\n", "> /tools; touch -t 202001010000 /tools\n"
    )
    one: Machine = make("one")
    one.run(text, no_cache=True)
    assert one.outcomes_of(text, no_cache_stages=("build",)) == (3, 3)
