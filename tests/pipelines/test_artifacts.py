"""Where outputs are, on both databases: which host gets which job, who has something to send, and what is collected."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ci.ends import JobOutcome, Published
from core.digests import DiffID, Digest
from core.settings import ServiceSettings
from core.trust import of_branch, of_fork, of_stranger, protected
from images.kept import Kept
from images.oci import OCI_MANIFEST
from images.store import Store
from pipelines.accounts.outputtokens import GOOD_FOR_S, OutputTokens
from pipelines.errors import LeftToOthersError, StaleAttemptError
from pipelines.keeping.backup import backup, restore
from pipelines.keeping.outputs import GRACE_S, collect_outputs
from pipelines.model import Claim
from pipelines.owning.ownership import outputs_of, owner_of
from pipelines.runs.artifacts import ALIVE_S, KEPT_S, Artifact, Left, note_left, output_tag, run_of_tag
from pipelines.runs.nearness import PATIENCE_S, SENT_WITHIN_S, Nearness
from pipelines.runs.numbers import newest_run
from pipelines.schema import artifacts, jobs, output_tokens, runs, workers
from pipelines.service import Service
from registry.server.content import Blob
from registry.server.registry import Registry
from registry.server.schema import hide
from registry.server.settings import ServerSettings
from tests.pipelines.test_pipelines import LAYER, begun, node
from worker.keptrows import kept_name, published_name, settle_kept

HERE, THERE = "a" * 32, "b" * 32
BLOB = "sha256:" + "c" * 64


def end(service: Service, claim: Claim, left: Left, outcome: JobOutcome | None = None) -> None:
    found = outcome or JobOutcome("succeeded", outputs=LAYER)
    service.claims.finish(
        claim, "succeeded", "", found, store=lambda connection: note_left(connection, claim.number, left)
    )


def sent(kind: str = "layer", name: str = "", manifest: str = "m", until: float = 0.0) -> Artifact:
    return Artifact(kind, name, "runs/app", manifest, str(LAYER), BLOB, "t", 7, until)  # type: ignore[arg-type]


def beat(service: Service) -> None:
    for host in (HERE, THERE):
        service.workers.beat(f"w-{host[0]}", ("l",), 1, host=host)


def take(service: Service, host: str) -> Claim | None:
    return service.claims.take(f"w-{host[0]}", ("l",), host)


def age(service: Service, seconds: float) -> None:
    """Let all jobs that wait have waited longer."""
    with service.database.write() as connection:
        connection.execute(update(jobs).values(queued_at=jobs.c.queued_at - seconds))


def test_job_whose_layers_are_on_one_host_alone_waits_for_that_host(service: Service) -> None:
    beat(service)
    begun(service, node("make"), node("use", "make"), node("other"))
    make = take(service, HERE)
    assert make is not None
    assert make.name == "make"
    end(service, make, Left(HERE, is_left=True, is_unsent=True))
    age(service, 2 * PATIENCE_S)
    other = take(service, THERE)
    assert other is not None
    assert other.name == "other", "what needs nothing is done anywhere"
    assert take(service, THERE) is None
    with service.database.write() as connection:  # nothing was heard of that host for long
        old = workers.c.heartbeat_at - ALIVE_S - 1
        connection.execute(update(workers).where(workers.c.host == HERE).values(heartbeat_at=old))
    use = take(service, THERE)
    assert use is not None
    assert use.name == "use"


def test_job_that_needs_what_is_on_two_hosts_waits_for_them_to_send_it_but_not_for_ever(service: Service) -> None:
    beat(service)
    begun(service, node("a"), node("b"), node("use", "a", "b"))
    for host in (HERE, THERE):
        claim = take(service, host)
        assert claim is not None
        end(service, claim, Left(host, is_left=True))
    age(service, SENT_WITHIN_S - 60)
    assert [take(service, host) for host in (HERE, THERE)] == [None, None]
    age(service, 61)
    use = take(service, THERE)
    assert use is not None, "without a registry it would wait until the run's time is over, and nobody knew why"
    assert use.name == "use"


def test_where_a_job_ran_last_is_looked_for_in_the_last_runs_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a job that is new, all runs of a project would be looked at in each claim."""
    beat(service)
    begun(service, node("test"))
    claim = take(service, HERE)
    assert claim is not None
    end(service, claim, Left(HERE))
    run = begun(service, node("test"))

    with service.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.run == run).values(spec='{"caches":["x"]}'))
        (row,) = connection.execute(select(jobs).where(jobs.c.run == run, jobs.c.name == "test"))
        assert Nearness(connection, THERE, row.queued_at).is_better_elsewhere(row), "its caches are there"
        monkeypatch.setattr("pipelines.runs.nearness._LOOKED_BACK", 0)
        assert not Nearness(connection, THERE, row.queued_at).is_better_elsewhere(row)


def test_job_is_left_for_a_moment_to_the_host_that_has_its_layers(service: Service) -> None:
    beat(service)
    begun(service, node("make"), node("use", "make"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE, (sent(),)))
    with pytest.raises(LeftToOthersError):
        take(service, THERE)
    age(service, PATIENCE_S + 0.1)
    assert take(service, THERE) is not None, "and no longer than that"


def test_job_is_not_left_to_a_host_that_is_busy(service: Service) -> None:
    beat(service)
    begun(service, node("make"), node("use", "make"), node("long"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE, (sent(),)))
    long = service.claims.take("w-a", (), HERE)
    assert long is not None
    assert long.name == "use", "of equals the nearest"
    assert take(service, THERE) is not None


def test_of_a_run_s_jobs_a_worker_takes_the_nearest(service: Service) -> None:
    beat(service)
    begun(service, node("a"), node("b"), node("of-a", "a"), node("of-b", "b"))
    for host in (HERE, THERE):
        claim = take(service, host)
        assert claim is not None
        end(service, claim, Left(host, (sent(),)))
    age(service, PATIENCE_S + 0.1)
    near = [take(service, host) for host in (THERE, HERE)]
    assert [claim.name for claim in near if claim is not None] == ["of-b", "of-a"]


def test_one_host_asks_nothing_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.workers.beat("w-a", (), 1, host=HERE)
    begun(service, node("make"), node("use", "make"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE, is_left=True))
    monkeypatch.setattr("pipelines.runs.nearness.jobs_before", None)
    assert take(service, HERE) is not None


def test_what_a_host_has_to_send_is_known_until_it_is_sent(service: Service) -> None:
    run = begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    published = (Published("site", LAYER, 1, 7, 60.0),)
    end(
        service,
        make,
        Left(HERE, is_left=True, is_unsent=True),
        JobOutcome("succeeded", outputs=LAYER, published=published),
    )
    assert not service.artifacts.has_unsent(THERE)
    (found,) = service.artifacts.unsent(HERE)
    assert (found.number, found.place, found.name, found.run.number) == (make.number, 2, "make", run)
    assert found.outcome.published == published
    service.artifacts.note(make.number, THERE, [sent()], is_whole=True)
    assert service.artifacts.of_run(run) == {}, "another host has sent nothing"
    until = time.time() + 60
    service.artifacts.note(make.number, HERE, [sent(), sent("output", "site", until=until)], is_whole=True)
    assert not service.artifacts.has_unsent(HERE)
    assert {each.kind for each in service.artifacts.of_run(run)["make"]} == {"layer", "output"}
    at = service.artifacts.output(run, 2, "site")
    assert at is not None
    assert at.until == until
    assert service.outputs.get(run, 2, "site").view.artifact == f"runs/app:{run}-2-site"
    with service.database.read() as connection:
        assert connection.execute(select(jobs.c.left_at).where(jobs.c.number == make.number)).scalar() == ""


def test_what_one_host_alone_has_is_offered_when_another_comes(service: Service) -> None:
    begun(service, node("make"), node("use", "make"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE, is_left=True))
    assert not service.artifacts.has_unsent(HERE)
    service.artifacts.offer_again(HERE)
    assert service.artifacts.has_unsent(HERE)
    service.artifacts.note(make.number, HERE, [sent()], is_whole=True)
    service.artifacts.offer_again(HERE)
    assert not service.artifacts.has_unsent(HERE), "what was sent is not sent again"


def test_after_a_restore_hosts_send_anew_what_they_have(
    service: Service, settings: ServiceSettings, tmp_path: Path
) -> None:
    """No backup says what the registry has: the collector would remove it, and no other host would find it."""
    beat(service)
    run = begun(service, node("make"), node("plain"), node("use", "make"))
    make, plain = take(service, HERE), take(service, HERE)
    assert make is not None
    assert plain is not None
    until = time.time() + 60
    outcome = JobOutcome("succeeded", outputs=LAYER, published=(Published("site", LAYER, 1, 7, 60.0),))
    end(service, make, Left(HERE, (sent(), sent("output", "site", until=until))), outcome)
    end(service, plain, Left(HERE), JobOutcome("succeeded"))
    assert not service.artifacts.has_unsent(HERE)
    backup(settings, tmp_path / "backup.tar")
    restore(settings, tmp_path / "backup.tar")
    assert service.artifacts.of_run(run) == {}
    assert [found.name for found in service.artifacts.unsent(HERE)] == ["make"]
    age(service, 2 * PATIENCE_S)
    assert take(service, THERE) is None, "what it needs is not there yet"
    service.artifacts.note(make.number, HERE, [sent()], is_whole=True)
    use = take(service, THERE)
    assert use is not None
    assert use.name == "use"


@pytest.mark.parametrize("group", ["", "production"])
def test_groups_ahead_are_seen(service: Service, group: str) -> None:
    run = begun(service, node("make"), node("use", "make", group=group))
    assert service.artifacts.has_gates(run) == bool(group)


def test_gates_ahead_are_seen(service: Service) -> None:
    assert service.artifacts.has_gates(begun(service, node("make"), node("ask", "make", is_gate=True)))


def test_token_opens_its_domain_s_repository_and_no_other(service: Service) -> None:
    begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    fork, branch, main = of_fork("app", 7), of_branch("app", "x"), protected("app")
    assert outputs_of(main) == outputs_of(branch) == "runs/app"
    assert len({outputs_of(domain) for domain in (fork, of_fork("app", 8), of_stranger("app", "7"), main)}) == 4
    assert owner_of(outputs_of(fork), {"app"}.__contains__) == "app"
    assert outputs_of(protected("a..b")) == ""
    tokens = service.output_tokens
    theirs, ours = tokens.log_in(tokens.create(make.number, fork)), tokens.log_in(tokens.create(make.number, main))
    assert theirs is not None
    assert ours is not None
    for action in ("pull", "push"):
        assert theirs.covers(outputs_of(fork), action)
        assert ours.covers("runs/app", action)
        for name in ("runs/app", outputs_of(of_fork("app", 8)), "app", "app/x", "cache/app", "runs/other"):
            assert not theirs.covers(name, action), name
        for name in (outputs_of(fork), "runs/other", "runs/apps", "runs", "other", "x"):
            assert not ours.covers(name, action), name
    assert ours.covers("app/web", "pull"), "its layers are mounted"
    assert not ours.covers("app/web", "push")
    assert not ours.covers("runs/app", "delete")


def test_who_sends_for_a_job_that_was_removed_is_told_so(service: Service) -> None:
    begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE, is_left=True, is_unsent=True))
    service.projects.remove("app")
    with pytest.raises(StaleAttemptError, match="is gone"):
        service.output_tokens.create(make.number, protected("app"))


def test_token_of_the_commons_opens_no_image_for_any_of_them_may_be_another_project_s(service: Service) -> None:
    begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    rights = service.output_tokens.log_in(service.output_tokens.create(make.number, protected("default")))
    assert rights is not None
    assert rights.covers("runs/default", "push")
    assert not any(rights.covers(name, "pull") for name in ("app", "app/web", "default", "cache/app", "runs/app"))


def test_token_ends_by_itself_when_it_is_forgotten_and_with_its_run(service: Service) -> None:
    begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    now = [time.time()]
    tokens = OutputTokens(service.database, clock=lambda: now[0])
    texts = [tokens.create(make.number, protected("app")) for _ in range(3)]
    rights = tokens.log_in(texts[0])
    assert rights is not None
    assert tokens.standing(rights.known) == rights
    for wrong in ("", "%", "_" * 20, rights.known[:-1], rights.known + "0", "é" * 20):
        assert tokens.standing(wrong) is None
    for wrong in ("", "shp_out_", texts[0][:-1], texts[0] + "x", texts[0].replace("shp_out", "shp_run")):
        assert tokens.log_in(wrong) is None
    tokens.forget(texts[0])
    assert tokens.log_in(texts[0]) is None
    assert tokens.standing(rights.known) is None
    now[0] += GOOD_FOR_S + 1
    assert tokens.log_in(texts[1]) is None
    tokens.sweep()
    with service.database.read() as connection:
        assert connection.execute(select(output_tokens.c.hash)).first() is None


@pytest.fixture
def registry(service: Service) -> Iterator[Registry]:
    with Store.open(service.settings.root) as store:
        made = Registry(store, ServerSettings(hidden="runs/"))
        hide(store.database, "runs/", 0.0)
        yield made
        made.close()


def put(registry: Registry, content: bytes, *tags: str, age_s: float = 2 * GRACE_S) -> str:
    """An artifact in runs/app, pushed so long ago; the digest of its manifest."""
    digest = Digest.of(content)

    def link(connection: object, found: Digest) -> None:
        registry.content.link(connection, "runs/app", Blob(digest, found, len(content)))  # type: ignore[arg-type]

    registry.content.put_bytes(content, link)
    blob = {"mediaType": "x", "digest": str(digest), "size": len(content)}
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob, "layers": [blob]}).encode()
    pushed = registry.manifests.put("runs/app", data, OCI_MANIFEST, digest=None, tags=tags)
    with registry.rows.transaction() as connection:
        at = time.time() - age_s
        connection.execute("UPDATE registry_manifests SET pushed_at = ? WHERE digest = ?", (at, pushed.digest))
        connection.execute("UPDATE registry_tags SET updated_at = ?", (at,))
    return str(pushed.digest)


def there(registry: Registry) -> set[str]:
    return {digest for (digest,) in registry.rows.all("SELECT digest FROM registry_manifests")}


def test_what_no_run_has_any_more_is_collected_and_nothing_else(service: Service, registry: Registry) -> None:
    run = begun(service, node("make"), node("next"))
    make = take(service, HERE)
    assert make is not None
    wanted, shared, lost, new = (put(registry, name) for name in (b"wanted", b"shared", b"lost", b"new"))
    over, kept = put(registry, b"over", f"{run}-2-over", f"{run}-2-gone"), put(registry, b"kept", f"{run}-2-kept")
    with registry.rows.transaction() as connection:
        connection.execute("UPDATE registry_manifests SET pushed_at = ? WHERE digest = ?", (time.time(), new))
    found = (
        sent(manifest=wanted),
        sent("output", "over", over, until=time.time() - 1),
        sent("output", "shared", shared, until=time.time() - 1),
        sent("output", "again", shared, until=time.time() + 60),
        sent("output", "kept", kept, until=time.time() + 60),
    )
    end(service, make, Left(HERE, found))
    assert collect_outputs(service.database, registry, time.time()) == 2
    assert there(registry) == {wanted, shared, kept, new}
    assert lost not in there(registry)
    assert registry.manifests.tags("runs/app", limit=None, last="").items == [f"{run}-2-kept"]
    rest = take(service, HERE)
    assert rest is not None
    end(service, rest, Left(HERE), JobOutcome("succeeded"))
    with service.database.write() as connection:
        connection.execute(update(runs).values(finished_at=time.time() - KEPT_S - 1))
    collect_outputs(service.database, registry, time.time())
    assert there(registry) == {shared, kept, new}, "for a week after the run's end"
    service.projects.remove("app")
    with service.database.read() as connection:
        assert connection.execute(select(artifacts.c.job)).first() is None
    collect_outputs(service.database, registry, time.time())
    assert there(registry) == {new}


@pytest.mark.parametrize(
    ("tag", "run"), [("12-3-a", 12), ("latest", None), ("", None), ("9" * 30, None), ("١-2-x", None)]
)
def test_tags_that_are_none_of_ours_name_no_run(tag: str, run: int | None) -> None:
    assert run_of_tag(tag) == run
    assert run_of_tag(output_tag(12, 3, "a-b")) == 12


def test_what_runs_of_a_removed_project_made_is_kept_no_longer(service: Service) -> None:
    run = begun(service, node("make"))
    make = take(service, HERE)
    assert make is not None
    end(service, make, Left(HERE))
    with Store.open(service.settings.root) as store:
        with store.layers.writer() as blob:
            blob.write(hashlib.sha256(b"x").digest() * 64)
            layer = blob.commit()
        names = [kept_name(run, "make"), published_name(run, "make", "site")]
        later = [kept_name(run + 1, "make"), published_name(run + 1, "make", "site")]
        _keep(store.kept, [*names, *later], layer)
        settle_kept(service.database, store.kept, time.time())
        assert store.kept.names() == sorted([*names, *later])
        service.projects.remove("app")
        assert newest_run(service.database) == run
        settle_kept(service.database, store.kept, time.time())
        assert store.kept.names() == sorted(later), "a database that was restored knows less than there was"


def _keep(kept: Kept, names: list[str], layer: DiffID) -> None:
    for name in names:
        kept.keep(name, [layer], until=time.time() + 1000)


def test_no_run_has_no_number(service: Service) -> None:
    assert newest_run(service.database) == 0
