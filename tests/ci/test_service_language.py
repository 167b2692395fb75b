"""Services in a pipeline file: what is wrong with them is told at its place, and a job is planned with their values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ci.conditions import Event
from ci.errors import PipelineFileError
from ci.model import Ready
from ci.parsing import ParsedFile, parse_pipeline
from ci.planning import PlannedJob, plan

Lint = Callable[[str], str]


def _defined(definition: str, name: str = "db") -> str:
    return f"services: {{{name}: {definition}}}\njobs: {{a: {{image: 'b:1', run: x, services: {name}}}}}\n"


def _used(services: str, more: str = "") -> str:
    return f"services: {{db: {{image: 'b:1'}}}}\njobs: {{a: {{image: 'b:1', run: x, services: {services}}}{more}}}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_defined("{env: {}}"), "1:17: error: a service has no image"),
        (_defined(""), "error: expected a service: a map with image, env, args, secrets, limits, ready"),
        (_defined("{image: 'b:1', run: x}"), '1:31: error: no key of a service is called "run"'),
        (_defined("{image: 'b:1'}", "localhost"), "1:12: error: localhost is what each container calls itself"),
        (_defined("{image: 'b:1'}", "job"), "1:12: error: job is what services call the job that they are of"),
        (_defined("{image: 'b:1'}", "a"), '1:12: error: a job is called "a" as well; a service has a name of its own'),
        (_defined("{image: 'b:1'}", "Db"), "1:12: error: expected the name of a service"),
        (_defined("{image: 'b:1', ready: 0}"), "1:38: error: a port is a number from 1 to 65535, and this is 0"),
        (_defined("{image: 'b:1', ready: -1}"), "error: a port is a number from 1 to 65535, and this is -1"),
        (_defined("{image: 'b:1', ready: 65536}"), "error: a port is a number from 1 to 65535, and this is 65536"),
        (_defined(f"{{image: 'b:1', ready: {'9' * 5000}}}"), "a port is a number from 1 to 65535, and this is 9999"),
        (_defined("{image: 'b:1', ready: {port: 70000}}"), "1:45: error: expected a whole number from 1 to 65535"),
        (_defined("{image: 'b:1', ready: {port: 1, command: x}}"), "1:48: error: a service is ready by its port or by"),
        (_defined("{image: 'b:1', ready: {timeout: 2h}}"), "at most 1h"),
        (_defined("{image: {job: x}}"), '1:30: error: no job "x"'),
        (_defined("{image: {job: a}}"), '1:30: error: "a" builds no image'),
        (_defined("{image: 'b:${X}'}"), "1:24: error: nothing is called ${X}"),
        (_defined("{image: b}"), "1:24: warning: this image may be another one tomorrow"),
        (_used("[dbx]"), '2:45: error: no service "dbx" (did you mean "db"?)'),
        (_used("[db, db]"), '2:49: error: the service "db" is named twice'),
        (
            _used("{db: {image: c}}"),
            "2:44: error: expected the name of a service, and this is a map",
        ),
        (_used("[]"), '1:12: warning: no job uses the service "db"'),
        (_used("[db]", ", c: {build: ., services: [db]}"), "a job with `build` has no use for `services`"),
        (_used("[db]").replace("'b:1'}}", "'b:1', secrets: [KEY]}}", 1), "also runs for forks, which get no secrets"),
        ("services: []\njobs: {a: {build: .}}", "1:11: error: expected a map from the name of a service"),
    ],
)
def test_each_mistake_is_told(lint: Lint, text: str, words: str) -> None:
    assert words in lint(text)


def test_what_is_in_order(lint: Lint) -> None:
    assert lint(_used("[db]")) == lint(_used("db")) == ""


def _planned(parsed: Callable[[str], ParsedFile], text: str) -> dict[str, PlannedJob]:
    found = plan(parsed(text), Event("push", facts={"SHIPLAP_BRANCH": "main"})).jobs
    sent = [
        PlannedJob.from_data(job.to_data(), {"SHIPLAP_BRANCH": "main", "PORT": "77"}) for job in found
    ]  # as a worker gets them
    return {job.name: job for job in sent}


_TEXT = """\
services:
  db: {image: "postgres:${PG}", env: {BRANCH: "${SHIPLAP_BRANCH}", LEFT: "$${PG}"}, ready: "${PORT}"}
  own: {image: {job: app}, args: [serve, "${app.IMAGE}"], secrets: [{name: KEY, file: "/${PG}"}], ready: test -e /x}
defaults: {services: [own]}
params: {PORT: {default: 77}}
jobs:
  app: {build: {context: ., push: false}}
  test: {image: "b:1", matrix: {PG: [16, 17]}, services: [db, own], when: {fork: false}, run: x}
"""


def test_values_are_put_into_services_job_by_job(parsed: Callable[[str], ParsedFile]) -> None:
    jobs = _planned(parsed, _TEXT)
    assert {name: job.needs for name, job in jobs.items()} == {"app": (), "test (16)": ("app",), "test (17)": ("app",)}
    settled = jobs["test (17)"].settled({"SHIPLAP_BRANCH": "main", "PORT": "77"}, {"app": {"IMAGE": "app@sha256:1"}})
    db, own = settled.services
    assert (db.name, db.image.reference, db.env) == ("db", "postgres:17", {"BRANCH": "main", "LEFT": "${PG}"})
    assert db.ready == Ready(port=77)
    assert (own.name, own.args, own.secrets[0].file) == ("own", ("serve", "app@sha256:1"), "/${PG}")
    assert own.ready == Ready(command=("/bin/sh", "-c", "test -e /x"))


USER = "services: {db: {image: 'b:1'}}\njobs: {p: {use: ./part.yml}, c: {image: 'b:1', run: x, services: [db]}}"


def test_a_part_has_services_of_its_own() -> None:
    """It sees none of who uses it, nor they its: two of one name are two."""
    part = b"jobs: {a: {image: 'b:1', run: x, services: [db]}}"
    with pytest.raises(PipelineFileError, match='no service "db"'):
        parse_pipeline(USER.encode(), read_part=lambda _: part)
    own = b"services: {db: {image: 'of-the-part:2', env: {A: '${PARAM}'}}}\nparams: {PARAM: {default: one}}\n" + part
    parsed = parse_pipeline(USER.encode(), read_part=lambda _: own)
    jobs = {job.name: job.job for job in plan(parsed, Event("push")).jobs}
    assert {name: [str(each.image.reference) for each in job.services] for name, job in jobs.items()} == {
        "p/a": ["of-the-part:2"], "c": ["b:1"],
    }  # fmt: skip
    assert dict(jobs["p/a"].services[0].env) == {"A": "one"}
    with pytest.raises(PipelineFileError, match='no service "own"'):
        parse_pipeline(USER.replace("[db]}}", "[own]}}").encode(), read_part=lambda _: own.replace(b"db", b"own"))


def test_services_of_a_part_are_moved_with_its_jobs() -> None:
    """Images that its jobs make are the part's; what they export has its place; secrets are names, and stay so."""
    part = b"""
services: {app: {image: {job: make}, env: {OF: '${make.DIGEST}'}, secrets: ['${PARAM}'], args: ['${PARAM}']}}
params: {PARAM: {default: one}}
jobs: {make: {build: .}, a: {image: 'b:1', run: x, services: [app]}}
"""
    with pytest.raises(PipelineFileError, match="the name of a secret"):
        parse_pipeline(b"jobs: {p: {use: ./part.yml, needs: z}, z: {image: b, run: x}}", read_part=lambda _: part)
    good = part.replace(b"secrets: ['${PARAM}']", b"secrets: [KEY]")
    text = b"jobs: {p: {use: ./part.yml, needs: z}, z: {image: 'b:1', run: x}}"
    planned = {job.name: job for job in plan(parse_pipeline(text, read_part=lambda _: good), Event("push")).jobs}
    assert (planned["p/make"].needs, planned["p/a"].needs) == (("z",), ("p/make",))
    (app,) = planned["p/a"].settled({}, {"p/make": {"DIGEST": "sha256:1"}}).services
    assert (app.image.job, app.env, app.args) == ("p/make", {"OF": "sha256:1"}, ("one",))
    again = PlannedJob.from_data(planned["p/a"].to_data(), {})
    assert again.settled({}, {"p/make": {"DIGEST": "sha256:1"}}).services == (app,)
