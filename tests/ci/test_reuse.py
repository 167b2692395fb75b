"""Results of jobs that are known: what is in a key, for whom a result counts, and what is said of a job that ran."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builder.explaining.words import in_words
from ci.ends import JobOutcome
from ci.model import Build, Job, Limits, Output, Retry, Secret
from ci.reuse import keys
from ci.reuse.keys import Ingredients, JobKey, is_reusable, key_of
from ci.reuse.results import Results
from ci.workspace.stack import Stack
from core.events import MissReason
from core.trust import HOST, Domain, Privacy, of_branch, of_fork, of_stranger, of_user, protected
from images.store import Store
from tests.toolkit.layers import lay

JOB = Job(
    run=("make", "make test"),
    inputs=("src",),
    outputs=(Output("dist"),),
    exports=("VERSION",),
    secrets=(Secret("TOKEN"), Secret("NOTE", optional=True)),
    env={"LEVEL": "3"},
)


def fingerprint(value: bytes) -> str:
    return hmac.digest(b"the service's key", value, "sha256").hex()


GIVEN = Ingredients(
    image=("python:3.13", "sha256:" + "a" * 64),
    image_env=(("PATH", "/bin"), ("LANG", "C")),
    platform="linux/amd64",
    variables=(("CI", "true"), ("LEVEL", "3")),
    secrets={"TOKEN": b"hunter2"},
    fingerprint=fingerprint,
    manifest=b"source\x000\0\0entry\0src/a\x00100644 0:0\x0011\0",
)
MAIN = protected("p")


def key(job: Job = JOB, domain: Domain = MAIN, privacy: Privacy = Privacy.COMMON, **changed: Any) -> JobKey:
    return key_of(job, GIVEN._replace(**changed), domain, privacy)


@pytest.mark.parametrize(
    "changed",
    [
        {"run": ("make", "make check")},
        {"run": ("make\nmake test",)},
        {"run": None, "args": ("make", "make test")},
        {"shell": "bash"},
        {"workdir": "/work/src"},
        {"user": "app"},
        {"platform": "linux/arm64"},
        {"network": "none"},
        {"tty": True},
        {"outputs": (Output("dist2"),)},
        {"outputs": (Output("dist", into="x"),)},
        {"outputs": (Output("dist", optional=True),)},
        {"outputs": ()},
        {"exports": ("VERSION", "OTHER")},
        {"secrets": (Secret("TOKEN", variable="KEY"), Secret("NOTE", optional=True))},
        {"secrets": (Secret("TOKEN", file="/run/token"), Secret("NOTE", optional=True))},
        {"secrets": (Secret("TOKEN"),)},
    ],
    ids=repr,
)
def test_each_part_of_a_job_that_takes_part_in_it_is_in_its_key(changed: Mapping[str, Any]) -> None:
    other = key(replace(JOB, **changed))
    assert other.key != key().key
    assert other.op != key().op


@pytest.mark.parametrize(
    "changed",
    [
        {"image": ("python:3.13", "sha256:" + "b" * 64)},
        {"image_env": (("PATH", "/usr/bin"), ("LANG", "C"))},
        {"platform": "linux/arm64"},
        {"variables": (("CI", "true"), ("LEVEL", "4"))},
        {"variables": (("CI", "true"), ("LEVEL", "3"), ("MORE", ""))},
        {"secrets": {"TOKEN": b"hunter3"}},
        {"secrets": {"TOKEN": b"hunter2", "NOTE": b"note"}},
        {"secrets": {}},
        {"manifest": GIVEN.manifest.replace(b"src/a", b"src/b")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_thing_that_a_run_gives_it_is_in_its_key(changed: Mapping[str, Any]) -> None:
    assert key(**changed).key != key().key


def test_the_version_of_the_executor_and_the_project_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    assert key(domain=protected("q")).key != before.key
    monkeypatch.setattr(keys, "EXECUTOR", "other")
    assert key().key != before.key


@pytest.mark.parametrize(
    "changed",
    [
        {"timeout_s": 5.0},
        {"grace_s": 1.0},
        {"limits": Limits(memory=1 << 30, cpus=2.0, pids=5, disk=1, shm=1 << 26)},
        {"workers": ("fast",)},
        {"retry": Retry(3)},
        {"may_fail": True},
        {"after": "always"},
        {"reuse": True},
    ],
    ids=repr,
)
def test_times_limits_and_workers_are_not_in_the_key(changed: Mapping[str, Any]) -> None:
    assert key(replace(JOB, **changed)).key == key().key


def test_lanes_names_of_images_and_the_order_of_variables_are_not_in_the_key() -> None:
    for domain in (of_branch("p", "b"), of_user("p", "u"), of_fork("p", 7)):
        assert key(domain=domain).key == key().key
    assert key(image=("registry.example/python:3", GIVEN.image[1])).key == key().key
    assert key(variables=GIVEN.variables[::-1]).key == key().key  # type: ignore[index]


def test_parts_cannot_be_moved_from_one_to_another() -> None:
    assert key(replace(JOB, run=("a", "b c"))).key != key(replace(JOB, run=("a b", "c"))).key
    assert key(variables=(("A", "1\nB=2"),)).key != key(variables=(("A", "1"), ("B", "2"))).key


def test_values_that_are_no_text_are_kept_apart_and_kept(store: Store) -> None:
    odd, other = key(variables=(("BRANCH", "b\udcff"),)), key(variables=(("BRANCH", "b\udcfe"),))
    assert odd.key != other.key
    results(store).keep(odd, JobOutcome("succeeded"), run="1")
    assert results(store).changes(other, before=time.time() + 1) == [
        MissReason("env", "BRANCH", "b\\udcff", "b\\udcfe")
    ]


def test_no_secret_can_be_read_or_guessed_from_what_is_kept() -> None:
    kept = repr(key()._replace(manifest=b"")) + repr(key(variables=(("API_TOKEN", "s3cr3t-value"),)).members)
    assert "hunter2" not in kept
    assert "s3cr3t-value" not in kept
    assert fingerprint(b"hunter2") not in kept


def test_who_is_reusable() -> None:
    secrets = GIVEN.secrets
    assert is_reusable(JOB, secrets, fingerprint)
    assert not is_reusable(replace(JOB, inputs=None), secrets, fingerprint)
    assert not is_reusable(replace(JOB, reuse=False), secrets, fingerprint)
    assert not is_reusable(replace(JOB, run=None, build=Build()), secrets, fingerprint)
    assert not is_reusable(JOB, secrets, None)
    assert is_reusable(JOB, {}, None)


# What is kept, and for whom.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


def results(store: Store, domain: Domain = MAIN, label: str = "job test") -> Results:
    return Results(store, domain, label)


PLAIN = replace(JOB, secrets=())


def open_key(domain: Domain = MAIN, privacy: Privacy = Privacy.COMMON) -> JobKey:
    """Of a job without secrets."""
    return key(PLAIN, domain, privacy, secrets={})


def test_a_result_is_the_layer_the_exports_and_the_run_that_it_is_of(store: Store) -> None:
    layer = lay(store, {"dist": "1"})
    assert results(store).find(key()) is None
    results(store).keep(key(), JobOutcome("succeeded", outputs=layer, exports={"VERSION": "2"}), run="41", took_s=2.5)
    found = results(store).find(key())
    assert found == JobOutcome("reused", outputs=layer, exports={"VERSION": "2"}, reused_from="41")
    assert results(store).find(key(secrets={"TOKEN": b"other"})) is None


def test_a_job_without_outputs_has_a_result_too(store: Store) -> None:
    results(store).keep(key(), JobOutcome("succeeded"), run="41")
    assert results(store).find(key()) == JobOutcome("reused", reused_from="41")


def test_only_successes_are_kept(store: Store) -> None:
    for state in ("failed", "reused"):
        with pytest.raises(AssertionError):
            results(store).keep(key(), JobOutcome(state), run="1")


def test_a_result_whose_layer_is_gone_is_no_hit_and_no_error(store: Store, tmp_path: Path) -> None:
    layer = lay(store, {"dist": "1"})
    results(store).keep(key(), JobOutcome("succeeded", outputs=layer), run="41")
    store.close()
    with Store.open(tmp_path / "root") as later:
        with later.database.transaction() as connection:
            connection.execute("DELETE FROM layers WHERE diff_id = ?", (layer,))
        assert results(later).find(key()) is None
        assert results(later).changes(key(), before=time.time() + 1) == [MissReason("evicted")]


def test_a_result_of_another_version_is_no_hit_and_no_error(store: Store) -> None:
    results(store).keep(key(), JobOutcome("succeeded"), run="41")
    with store.database.transaction() as connection:
        connection.execute("UPDATE records SET detail = ?", (b"\xc1garbage",))
    assert results(store).find(key()) is None
    assert results(store).changes(key(), before=time.time() + 1) == [MissReason("never-succeeded")]


@pytest.mark.parametrize(
    "maker", [MAIN, of_branch("p", "feature"), of_user("p", "ann")], ids=lambda domain: domain.label
)
@pytest.mark.parametrize("asker", [MAIN, of_branch("p", "other")], ids=lambda domain: domain.label)
@pytest.mark.parametrize("privacy", [Privacy.COMMON, Privacy.PROJECT])
def test_what_was_green_in_one_lane_is_green_in_every_lane_of_its_project(
    store: Store, maker: Domain, asker: Domain, privacy: Privacy
) -> None:
    kept = open_key(maker)
    results(store, maker).keep(kept, JobOutcome("succeeded"), run="41")
    assert results(store, asker).find(open_key(asker, privacy)) is not None
    secret = key(JOB, maker)
    results(store, maker).keep(secret, JobOutcome("succeeded"), run="42")
    found = results(store, asker).find(key(JOB, asker, privacy))
    assert found is not None
    assert found.reused_from == "42"


def test_no_other_project_is_answered_nor_the_host(store: Store) -> None:
    for kept in (key(), open_key()):
        results(store).keep(kept, JobOutcome("succeeded"), run="41")
    for domain in (protected("q"), of_branch("q", "b"), of_fork("q", 1), HOST):
        assert results(store, domain).find(key(domain=domain)) is None
        assert results(store, domain).find(key()) is None  # nor with the very key, whatever it was made of
        assert results(store, domain).find(open_key(domain)) is None


@pytest.mark.parametrize("fork", [of_fork("p", 7), of_stranger("p", "eve")], ids=lambda domain: domain.label)
def test_a_forks_run_keeps_nothing_and_is_answered_by_nothing_that_saw_a_secret(store: Store, fork: Domain) -> None:
    for made in (key, open_key):
        results(store, fork).keep(made(domain=fork), JobOutcome("succeeded"), run="1")
        for domain in (fork, MAIN, HOST):
            assert results(store, domain).find(made(domain=domain)) is None
    results(store).keep(key(), JobOutcome("succeeded"), run="2")
    assert results(store, fork).find(key(domain=fork)) is None  # even knowing the secret
    results(store).keep(open_key(privacy=Privacy.PROJECT), JobOutcome("succeeded"), run="3")
    for privacy in Privacy:
        assert results(store, fork).find(open_key(fork, privacy)) is None
    results(store).keep(open_key(), JobOutcome("succeeded"), run="4")
    found = results(store, fork).find(open_key(fork))
    assert found is not None
    assert found.reused_from == "4"
    assert results(store, fork).changes(open_key(fork), before=time.time() + 1) == [MissReason("never-succeeded")]


# Why.


Why = Callable[..., list[MissReason]]


@pytest.fixture
def why(store: Store) -> Why:
    """What is said after a success of JOB, of a job that differs from it."""
    results(store).keep(key(), JobOutcome("succeeded"), run="41")

    def ask(job: Job = JOB, **changed: Any) -> list[MissReason]:
        return results(store).changes(key(job, **changed), before=time.time() + 1)

    return ask


def test_a_job_that_never_succeeded_says_so(store: Store, why: Why) -> None:
    assert results(store, label="job other").changes(key(), before=time.time() + 1) == [MissReason("never-succeeded")]
    assert results(store).changes(key(), before=0) == [MissReason("never-succeeded")]


def test_what_changed_is_named(why: Why) -> None:
    assert why(replace(JOB, run=("make",))) == [
        MissReason("option", "the commands", '["make","make test"]', '["make"]'),
    ]
    assert why(image=("python:3.14", "sha256:" + "c" * 64)) == [
        MissReason("base", "python:3.14", GIVEN.image[1], "sha256:" + "c" * 64)
    ]
    assert why(variables=(("CI", "true"), ("LEVEL", "4"))) == [MissReason("env", "LEVEL", "3", "4")]
    assert [change.name for change in why(secrets={"TOKEN": b"new"})] == ["secret TOKEN"]
    assert why(replace(JOB, network="none", user="app")) == [
        MissReason("option", "network", "default", "none"),
        MissReason("option", "user", None, "app"),
    ]
    assert in_words(why(replace(JOB, shell="bash"))) == 'shell changed: "sh" → "bash"'


def test_a_value_that_looks_like_a_secret_is_not_shown(store: Store) -> None:
    for value in ("one", "two"):
        now = key(variables=(("DB_PASSWORD", value),))
        said = results(store).changes(now, before=time.time() + 1)
        results(store).keep(now, JobOutcome("succeeded"), run="1")
    assert said == [MissReason("env", "DB_PASSWORD", "(hidden)", "(hidden)")]


def test_another_version_of_shiplap_is_a_reason(why: Why, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "EXECUTOR", "other")
    assert in_words(why()) == "another version of Shiplap"


def test_files_that_were_added_changed_and_removed_are_named(store: Store) -> None:
    def seen(**files: str) -> JobKey:
        stack = Stack(store, [lay(store, {name.replace("_", "."): text for name, text in files.items()})], inputs=["*"])
        return key(manifest=stack.manifest)

    results(store).keep(seen(a_py="1", b_py="2", c_py="3"), JobOutcome("succeeded"), run="41")
    said = results(store).changes(seen(a_py="1", b_py="new", d_py="4"), before=time.time() + 1)
    assert said == [MissReason("changed", "b.py"), MissReason("removed", "c.py"), MissReason("added", "d.py")]
    assert in_words(said) == "b.py changed, c.py removed, d.py added"
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM memo")
    said = results(store).changes(seen(a_py="1", b_py="new", d_py="4"), before=time.time() + 1)
    assert in_words(said) == "what it sees changed"


def test_a_job_leaves_one_list_of_files_however_often_it_runs(store: Store) -> None:
    for number in range(5):
        manifest = GIVEN.manifest + b"\0entry\0f%d\x00100644 0:0\x00%d\0" % (number, number)
        results(store).keep(key(manifest=manifest), JobOutcome("succeeded"), run=str(number))
    assert store.database.all("SELECT count(*) FROM memo") == [(1,)]
    said = results(store).changes(key(), before=time.time() + 1)
    assert in_words(said) == "f4 removed"


def test_a_file_whose_permissions_changed_is_named(store: Store) -> None:
    before = GIVEN.manifest
    results(store).keep(key(), JobOutcome("succeeded"), run="41")
    said = results(store).changes(key(manifest=before.replace(b"100644", b"100755")), before=time.time() + 1)
    assert in_words(said) == "mode of src/a changed: 0644 → 0755"
