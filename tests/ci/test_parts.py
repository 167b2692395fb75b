"""Parts: jobs of another file, named ``NAME/JOB``, with parameters, conditions and needs of who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

import pytest

from ci.conditions import Event
from ci.errors import CiError, PipelineFileError
from ci.language.names import PartPlace
from ci.model import EventName
from ci.parsing import ParsedFile, parse_alone, parse_pipeline
from ci.parts import MAX_PARTS
from ci.planning import Plan, PlannedJob, plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ELSEWHERE = f"https://git.example/ci/parts.git#{COMMIT}:go.yml"

GO = """
    params:
      DIR: {default: .}
      LEVEL: {default: low, type: choice, choices: [low, high]}
    jobs:
      build:
        build: {context: "${DIR}"}
      test:
        image: {job: build}
        matrix: {GO: ["1.22", "1.23"]}
        env: {IMAGE: "${build.IMAGE}", AT: "${DIR}/x"}
        run: go test
      deep:
        image: golang:1
        needs: [test]
        when: {params: {LEVEL: high}}
        exports: [REPORT]
        run: fuzz
    """


def parsed(text: str, parts: Mapping[str, str] = {"go.yml": GO}) -> ParsedFile:
    """A pipeline with these parts, by path, or by the whole ``use`` for those from elsewhere."""

    def read(place: PartPlace) -> bytes:
        name = f"{place.url}#{place.commit}:{place.path}" if place.url else place.path
        if name not in parts:
            raise CiError(f"there is no file {name}")
        return dedent(parts[name]).encode()

    return parse_pipeline(dedent(text).encode(), read_part=read)


def planned(text: str, parts: Mapping[str, str] = {"go.yml": GO}, *, event: EventName = "push") -> Plan:
    return plan(parsed(text, parts), Event(event, "main", facts={"SHIPLAP_BRANCH": "main", "SHIPLAP_RUN": "7"}))


def jobs(text: str, parts: Mapping[str, str] = {"go.yml": GO}) -> dict[str, PlannedJob]:
    return {job.name: job for job in planned(text, parts).jobs}


def problems(text: str, parts: Mapping[str, str] = {"go.yml": GO}) -> str:
    with pytest.raises(PipelineFileError) as caught:
        parsed(text, parts)
    return caught.value.render()


def test_the_jobs_of_a_part_are_named_after_who_uses_it() -> None:
    found = jobs("jobs: {api: {use: ./go.yml, with: {DIR: services/api}}, web: {use: ./go.yml}}")
    assert list(found) == [
        "api/build", "api/test (1.22)", "api/test (1.23)", "web/build", "web/test (1.22)", "web/test (1.23)",
    ]  # fmt: skip
    assert found["api/test (1.22)"].needs == ("api/build",)
    assert found["api/build"].job.build is not None
    assert found["api/build"].job.build.context == "services/api"
    assert found["web/build"].job.build is not None
    assert found["web/build"].job.build.context == "."


def test_parameters_are_variables_of_the_jobs_and_values_in_their_keys() -> None:
    found = jobs("jobs: {api: {use: ./go.yml, with: {DIR: api}}}")["api/test (1.22)"]
    assert dict(found.job.env) == {"IMAGE": "${api/build.IMAGE}", "AT": "api/x", "DIR": "api", "LEVEL": "low"}
    settled = found.settled({}, {"api/build": {"IMAGE": "r/x@sha256:1"}})
    assert settled.env["IMAGE"] == "r/x@sha256:1"


def test_a_job_with_inputs_gets_those_parameters_that_it_names() -> None:
    part = """
        params: {A: {default: "1"}, B: {default: "2"}}
        jobs: {j: {image: "x:1", inputs: [f], env: {C: "${A}"}, run: x}}
        """
    assert dict(jobs("jobs: {p: {use: ./p.yml}}", {"p.yml": part})["p/j"].job.env) == {"C": "1"}


def test_variables_of_the_pipeline_reach_the_part_below_its_own() -> None:
    part = "params: {A: {default: part}}\njobs: {j: {image: 'x:1', env: {B: job}, run: x}, i: {build: .}}"
    found = jobs("env: {A: top, B: top, C: top}\njobs: {p: {use: ./p.yml}}", {"p.yml": part})
    assert dict(found["p/j"].job.env) == {"A": "part", "B": "job", "C": "top"}


def test_defaults_of_the_pipeline_are_for_its_own_jobs() -> None:
    found = jobs("defaults: {timeout: 5m}\njobs: {p: {use: ./go.yml}, q: {image: 'x:1', run: x}}")
    assert found["q"].job.timeout_s == 300
    assert found["p/build"].job.timeout_s == 3600


def test_who_needs_the_name_needs_all_and_who_needs_one_job_that() -> None:
    found = jobs(
        """
        jobs:
          api: {use: ./go.yml, with: {LEVEL: high}}
          all: {image: "x:1", needs: [api], run: x}
          one: {image: {job: api/build}, needs: ["api/test (1.22)"], run: x}
          some: {image: "x:1", needs: [api/test], env: {R: "${api/build.DIGEST}"}, run: x}
        """
    )
    assert set(found["all"].needs) == {"api/build", "api/test (1.22)", "api/test (1.23)", "api/deep"}
    assert set(found["one"].needs) == {"api/test (1.22)", "api/build"}
    assert set(found["some"].needs) == {"api/test (1.22)", "api/test (1.23)"}


def test_a_part_waits_for_what_its_user_needs() -> None:
    found = jobs(
        """
        jobs:
          app: {build: .}
          api: {use: ./go.yml, needs: app, with: {DIR: "${app.IMAGE}"}}
        """
    )
    assert found["api/build"].needs == ("app",)
    assert found["api/test (1.22)"].needs == ("api/build",)  # which waits for it
    assert dict(found["api/test (1.22)"].job.env)["DIR"] == "${app.IMAGE}"


def test_conditions_of_both_count() -> None:
    text = "jobs: {api: {use: ./go.yml, when: {branch: rel/*}}, after: {image: 'x:1', needs: [api], run: x}}"
    found = planned(text)
    assert not found.jobs
    assert found.left_out["api/build"] == "it is not for branch main"
    assert found.left_out["after"] == "it needs api, which is left out"
    low = planned("jobs: {api: {use: ./go.yml}}")
    assert low.left_out == {"api/deep": "it is not for LEVEL=low"}


def test_values_are_texts_of_who_uses_the_part_and_a_default_is_data() -> None:
    part = """
        params: {A: {default: "${SHIPLAP_RUN}"}, B: {default: x}, C: {default: x}}
        jobs: {j: {image: "x:1", inputs: [f], env: {V: "${A}|${B}|${C}|${SHIPLAP_RUN}|$${A}"}, run: 'echo ${A}'}}
        """
    text = 'jobs: {p: {use: ./p.yml, with: {B: "${SHIPLAP_BRANCH}", C: "$${SHIPLAP_BRANCH}"}}}'
    job = jobs(text, {"p.yml": part})["p/j"].job
    assert job.env["V"] == "${SHIPLAP_RUN}|main|${SHIPLAP_BRANCH}|7|${A}"
    assert job.run == ("echo ${A}",)


def test_a_value_of_the_matrix_hides_a_parameter() -> None:
    part = "params: {A: {default: p}}\njobs: {j: {image: 'x:1', matrix: {A: [m]}, env: {V: '${A}'}, run: x}}"
    assert jobs("jobs: {p: {use: ./p.yml}}", {"p.yml": part})["p/j (m)"].job.env["V"] == "m"


def test_a_part_from_elsewhere_is_named_by_its_full_commit() -> None:
    found = jobs(f'jobs: {{p: {{use: "{ELSEWHERE}"}}}}', {ELSEWHERE: GO})
    assert "p/build" in found
    assert PartPlace.of(ELSEWHERE) == PartPlace("https://git.example/ci/parts.git", COMMIT, "go.yml")


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("go.yml", "a part is ./FILE, or https://HOST/REPO.git#40-HEX:FILE"),
        ("./", "leads to a file of its repository"),
        ("./../go.yml", "leads to a file of its repository"),
        ("./a//b.yml", "leads to a file of its repository"),
        ("/etc/passwd", "a part is ./FILE"),
        ("https://git.example/p.git#main:go.yml", "by its full commit"),
        ("https://git.example/p.git#v1.0:go.yml", "by its full commit"),
        (f"https://git.example/p.git#{COMMIT[:12]}:go.yml", "by its full commit"),
        (f"https://user:word@git.example/p.git#{COMMIT}:go.yml", "by its full commit"),
        (f"https://git.example/p.git#{COMMIT}:../go.yml", "leads to a file of its repository"),
        (f"file:///srv/p.git#{COMMIT}:go.yml", "a part is ./FILE"),
        (f"ssh://git@git.example/p.git#{COMMIT}:go.yml", "a part is ./FILE"),
        ("${SHIPLAP_BRANCH}", "a part is ./FILE"),
    ],
)
def test_other_places_are_refused_where_they_stand(use: str, says: str) -> None:
    told = problems(f'jobs:\n  p:\n    use: "{use}"\n')
    assert "3:10: error: " in told
    assert says in told


def test_all_that_is_wrong_with_both_files_is_told_each_in_its_place() -> None:
    part = """
        params: {A: {default: "1"}}
        jobs:
          a: {image: "x:1", needs: [b], run: x}
          c: {image: "x:1", env: {V: "${NOPE}"}, run: x}
          d: {run: x}
        """
    told = problems("jobs:\n  p: {use: ./p.yml}\n  q: {image: 'x:1', needs: [nobody], run: x}\n", {"p.yml": part})
    assert '.shiplap.yml:3:29: error: no job "nobody"' in told
    assert 'p.yml:4:29: error: no job "b"' in told
    assert "p.yml:5:30: error: nothing is called ${NOPE}" in told
    assert "p.yml:6:7: error: a job that runs something has an `image`" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p: {use: ./gone.yml}", "1:17: error: this part cannot be had: there is no file gone.yml"),
        ("p: {use: ./go.yml, with: {LEVEL: hgih}}", 'error: expected low or high, and this is "hgih"'),
        ("p: {use: ./go.yml, with: {DRI: x}}", "error: the part has no parameter DRI (did you mean DIR?)"),
        ("p: {use: ./go.yml, with: {LEVEL: '${SHIPLAP_BRANCH}'}}", "is checked before the run"),
        ("p: {use: ./go.yml, with: {DIR: '${b.IMAGE}'}}, b: {build: .}", '"p" does not need "b"'),
        ("p: {use: ./go.yml}, q: {image: 'x:1', needs: [p/tset], run: x}", '(did you mean "p/test"?)'),
        ("p: {use: ./go.yml}, q: {image: 'x:1', needs: ['p/test (9)'], run: x}", 'makes no job "p/test (9)"'),
        ("p: {use: ./go.yml}, q: {image: {job: p/test}, run: x}", '"p/test" builds no image'),
        ("p: {use: ./go.yml}, q: {image: 'x:1', needs: p, env: {V: '${p.IMAGE}'}, run: x}", '"p" is a part:'),
        ("p: {use: ./go.yml}, q: {image: 'x:1', env: {V: '${p/build.IMAGE}'}, run: x}", 'does not need "p/build"'),
        (
            "p: {use: ./go.yml, needs: [q]}, q: {image: 'x:1', needs: [p/test], run: x}",
            "wait for each other: p → q → p",
        ),
        ("p: {use: ./go.yml, needs: [p/test]}", "a job cannot need itself"),
        ("p: {use: ./go.yml, image: 'x:1'}", "a job with `use` has no use for `image`"),
        ("p: {image: 'x:1', with: {A: b}, run: x}", "a job with `run` has no use for `with`"),
        ("p: {use: ./go.yml, run: x}", "a job has either `run` or `use`"),
    ],
)
def test_wrong_uses_are_told(text: str, says: str) -> None:
    assert says in problems(f"jobs: {{{text}}}")


def test_a_part_that_cannot_be_read_is_told_alone() -> None:
    text = "jobs: {p: {use: ./p.yml, with: {A: b}}, q: {image: 'x:1', needs: [p/any], run: x}}"
    told = problems(text, {"p.yml": "params: {A: {default: x}}\njobs: {any: {build: .}}\non: push"})
    assert "p.yml:3:1: error: " in told
    assert ".shiplap.yml" not in told


def test_a_part_uses_no_parts_not_even_itself() -> None:
    told = problems("jobs: {p: {use: ./p.yml}}", {"p.yml": "jobs: {again: {use: ./p.yml}}"})
    assert "p.yml:1:21: error: a part uses no parts" in told


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("", "p.yml: error: the file is empty"),
        ("[1]", "p.yml:1:1: error: expected a map with `jobs`"),
        ("jobs: {a: *b}", "p.yml:1:11: error: "),
        ("jobs: {a: {build: .}}\non: push", "p.yml:2:1: error: "),
        ("jobs: {a: {build: .}}\nenv: {A: b}", "p.yml:2:1: error: "),
        ("jobs: {a: {image: 'x:1', run: x, services: [db]}}", 'no service "db" (the file defines them in `services`'),
        ("params: {A: {default: x, type: number}}\njobs: {a: {build: .}}", "p.yml:1:23: error: expected a number"),
        ("x" * 600_000, "p.yml: error: the file has more than 524288 bytes"),
    ],
)
def test_files_that_are_no_parts_are_told(part: str, says: str) -> None:
    assert says in problems("jobs: {p: {use: ./p.yml}}", {"p.yml": part})


def test_exports_that_are_needed_before_any_job_has_run_are_refused() -> None:
    part = "params: {G: {default: x}}\njobs: {j: {image: 'x:1', concurrency: {group: '${G}'}, run: x}}"
    text = "jobs: {b: {build: .}, p: {use: ./p.yml, needs: b, with: {G: '${b.IMAGE}'}}}"
    assert '1:61: error: "p/j" needs G before any job has run' in problems(text, {"p.yml": part})


def test_a_parameter_that_decides_which_jobs_there_are_is_known() -> None:
    part = "params: {G: {default: x}}\njobs: {j: {image: 'x:1', when: {params: {G: x}}, run: x}}"
    text = "jobs: {p: {use: ./p.yml, with: {G: '${SHIPLAP_BRANCH}'}}}"
    assert 'G decides whether there is "p/j"' in problems(text, {"p.yml": part})


def test_a_value_that_does_not_fit_is_told_where_the_part_uses_it() -> None:
    part = "params: {T: {default: 1h}}\njobs:\n  j: {image: 'x:1', timeout: '${T}', run: x}"
    text = "jobs: {p: {use: ./p.yml, with: {T: soon}}}"
    assert "p.yml:3:" in problems(text, {"p.yml": part})
    assert "expected a duration" in problems(text, {"p.yml": part})


def test_parts_and_their_jobs_have_a_bound() -> None:
    many = {f"p{number}.yml": "jobs: {j: {build: .}}" for number in range(MAX_PARTS + 1)}
    users = ", ".join(f"j{number}: {{use: ./p{number}.yml}}" for number in range(MAX_PARTS + 1))
    assert f"a pipeline uses at most {MAX_PARTS} parts" in problems(f"jobs: {{{users}}}", many)
    large = "jobs: {" + ", ".join(f"j{number}: {{build: .}}" for number in range(200)) + "}"
    told = problems("jobs: {a: {use: ./l.yml}, b: {use: ./l.yml}}", {"l.yml": large})
    assert "with those of its parts, a pipeline has at most 256 jobs" in told


def test_jobs_beyond_the_bound_are_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of 256 jobs each could else ask for 65,536."""
    made: list[object] = []
    monkeypatch.setattr("ci.parts.read_job", lambda *asked: made.append(asked))
    large = "jobs: {" + ", ".join(f"j{number}: {{build: .}}" for number in range(200)) + "}"
    problems("jobs: {a: {use: ./l.yml}, b: {use: ./l.yml}}", {"l.yml": large})
    assert made == []


def test_a_part_is_read_once_however_often_it_is_used() -> None:
    asked: list[PartPlace] = []

    def read(place: PartPlace) -> bytes:
        asked.append(place)
        return b"jobs: {j: {build: .}}"

    parse_pipeline(b"jobs: {a: {use: ./p.yml}, b: {use: ./p.yml}}", read_part=read)
    assert asked == [PartPlace("", "", "p.yml")]


def test_what_a_plan_says_of_a_part_travels_to_a_worker() -> None:
    facts = {"SHIPLAP_BRANCH": "main", "SHIPLAP_RUN": "7"}
    for job in planned("jobs: {api: {use: ./go.yml, with: {DIR: '${SHIPLAP_BRANCH}'}}}").jobs:
        back = PlannedJob.from_data(job.to_data(), facts)
        assert (back.name, back.needs, back.job.build) == (job.name, job.needs, job.job.build)
        assert dict(back.job.env) == dict(job.job.env)


def test_a_file_by_itself_is_checked_as_far_as_it_shows() -> None:
    found = parse_alone(b"jobs: {p: {use: ./p.yml}, q: {image: 'x:1', needs: [p/any], run: x}}")
    assert list(found.pipeline.jobs) == ["p", "q"]
    with pytest.raises(PipelineFileError, match='no job "r/any"'):
        parse_alone(b"jobs: {p: {use: ./p.yml}, q: {image: 'x:1', needs: [r/any], run: x}}")
