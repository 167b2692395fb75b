"""A cache in a registry is brought up to date after a build, and nothing is made or sent that the registry has."""

from __future__ import annotations

import http.client

import pytest

from builder.cacheio.renewing import lease, renew_cache
from builder.errors import BuildCancelledError, stop_when
from builder.result import BuildResult
from core.cancellation import asking
from core.digests import DiffID
from core.references import Reference
from images.layers import Compression, LayerStore
from images.oci import Descriptor
from images.store import Store
from tests.builder import cache_tools
from tests.builder.cache_tools import TWO, Machine, Machines
from tests.toolkit.faulty import Relay
from tests.toolkit.registries import DebianRegistry

pytestmark = pytest.mark.usefixtures("privileged")
make, registry, watched = cache_tools.make, cache_tools.registry, cache_tools.watched


def renew(machine: Machine, result: BuildResult, name: str) -> bool:
    """As another process does it once the build is over."""
    used = result.cache.leaves()
    with Store.open(machine.store.root) as store, machine.connect() as client:
        lease(store, used)
        return renew_cache(used, Reference.parse(name), (), client=client, store=store)


def asked(seen: Relay) -> list[tuple[str, str]]:
    """Requests but those that ask who is there: method and kind of thing."""
    return [(s.method, s.path.split("/")[-2]) for s in seen.seen if s.path != "/v2/"]


def sent(seen: Relay) -> int:
    """How many blobs were uploaded."""
    return sum(s.method == "PUT" and "/blobs/uploads/" in s.path for s in seen.seen)


def test_what_a_build_left_answers_another_machine_and_costs_one_request_when_it_is_there(
    make: Machines, watched: Relay
) -> None:
    one, two = make("one"), make("two")
    name = f"{watched.host}/renewed/all:main"
    result = one.run(TWO)
    assert renew(one, result, name)
    assert two.outcomes_of(TWO, cache_from=(f"type=registry,ref={name}",)) == (0, 6)
    assert [step.partition(" 127")[0] for step in two.internal_steps()] == ["import the cache"] * 2  # read, and fetched
    watched.seen.clear()
    assert not renew(one, result, name)
    assert not renew(one, one.run(TWO), name)
    assert asked(watched) == [("GET", "manifests")] * 2


def test_machine_that_imported_it_all_sends_nothing(make: Machines, watched: Relay) -> None:
    name = f"{watched.host}/renewed/passed:main"
    one, two = make("one"), make("two")
    renew(one, one.run(TWO), name)
    result = two.run(TWO, cache_from=(f"type=registry,ref={name}",))
    watched.seen.clear()
    assert not renew(two, result, name)
    branch = f"{watched.host}/renewed/passed:branch"
    assert renew(two, result, branch)
    assert sent(watched) == 0
    assert make("three").outcomes_of(TWO, cache_from=(f"type=registry,ref={branch}",)) == (0, 6)


def test_only_what_is_new_is_made_and_sent(make: Machines, watched: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    one, name = make("one"), f"{watched.host}/renewed/grown:main"
    renew(one, one.run(TWO), name)
    with one.store.database.transaction() as connection:  # as after a prune of what can be made again
        connection.execute("DELETE FROM blobs WHERE digest IN (SELECT digest FROM compressed)")
    made: list[str] = []
    compress = LayerStore._compress

    def noted(self: LayerStore, diff_id: DiffID, compression: Compression, level: int, begun: None) -> Descriptor:
        made.append(diff_id)
        return compress(self, diff_id, compression, level, begun)

    monkeypatch.setattr(LayerStore, "_compress", noted)
    watched.seen.clear()
    result = one.run(TWO + "RUN echo more > /more\n")
    assert renew(one, result, name)
    assert len(made) == 1
    assert sent(watched) == 2, "a layer, and the records"
    assert renew(one, result, name.replace(":main", ":other"))
    assert len(made) == 1, "the registry was asked instead"


def test_what_was_pruned_meanwhile_is_left_out(make: Machines, registry: DebianRegistry) -> None:
    one, name = make("one"), f"{registry.host}/renewed/pruned:main"
    result = one.run(TWO)
    assert renew(make("empty"), result, name)
    answered = make("two").outcomes_of(TWO, cache_from=(f"type=registry,ref={name}",))
    assert sum(answered) == 6
    assert answered[0] > 0


def test_blobs_that_the_registry_lost_are_sent_anew(make: Machines, registry: DebianRegistry, watched: Relay) -> None:
    one, name = make("one"), f"{watched.host}/renewed/lost:main"
    renew(one, one.run(TWO), name)
    host, port = registry.host.split(":")
    for seen in watched.seen:
        if seen.method == "PUT" and "digest=" in seen.path:
            connection = http.client.HTTPConnection(host, int(port))
            digest = seen.path.partition("digest=")[2].replace("%3A", ":")
            connection.request("DELETE", f"/v2/renewed/lost/blobs/{digest}")
            assert connection.getresponse().status == 202
            connection.close()
    assert renew(one, one.run(TWO + "RUN echo more > /more\n"), name)
    assert make("two").outcomes_of(TWO, cache_from=(f"type=registry,ref={name}",)) == (0, 6)


def test_it_ends_when_it_has_to(make: Machines, registry: DebianRegistry) -> None:
    one = make("one")
    result = one.run(TWO)
    with asking(stop_when(lambda: True)), pytest.raises(BuildCancelledError):
        renew(one, result, f"{registry.host}/renewed/stopped:main")
