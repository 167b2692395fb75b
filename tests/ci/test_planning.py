"""From a file and an event to jobs: which there are, what they wait for, and what became of ``${NAME}``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ci import matrix as matrices
from ci.conditions import Event
from ci.directories import directories_of
from ci.errors import PipelineFileError
from ci.model import Matrix
from ci.parsing import ParsedFile
from ci.planning import Plan, PlannedJob, names, plan
from ci.substitution import BadReferenceError, Placeholder, is_open, references, replace

Parsed = Callable[[str], ParsedFile]

_JOB = "image: 'b:1', run: x"


def shape(planned: Plan) -> dict[str, tuple[str, ...]]:
    return {job.name: job.needs for job in planned.jobs}


@pytest.fixture
def planned(parsed: Parsed) -> Callable[..., Plan]:
    def make(text: str, name: str = "push", **members: object) -> Plan:
        return plan(parsed(text), Event(name, **members))  # type: ignore[arg-type]

    return make


Planned = Callable[..., Plan]


def test_matrix_makes_a_job_of_each_combination(planned: Planned) -> None:
    found = planned(f"""jobs:
  test: {{{_JOB}, matrix: {{P: [3.10, 3.11], OS: [deb, alp], exclude: [{{P: 3.10, OS: alp}}]}}}}
  all: {{{_JOB}, needs: test}}
  one: {{{_JOB}, needs: "test (3.11, alp)"}}
  each: {{{_JOB}, matrix: {{P: [3.10, 3.11]}}, needs: "test (${{P}}, deb)"}}
""")
    tests = ("test (3.10, deb)", "test (3.11, deb)", "test (3.11, alp)")
    assert shape(found) == {
        **dict.fromkeys(tests, ()), "all": tests, "one": ("test (3.11, alp)",),
        "each (3.10)": ("test (3.10, deb)",), "each (3.11)": ("test (3.11, deb)",),
    }  # fmt: skip


def test_combinations_are_those_of_the_file_each_once() -> None:
    matrix = Matrix({"A": ("1", "1", "2")}, include=({"A": "2"}, {"A": "9"}))
    assert matrices.combinations(matrix, lambda _: ()) == [{"A": "1"}, {"A": "2"}, {"A": "9"}]
    alone = Matrix(include=({"A": "1", "B": "2"},))
    assert matrices.combinations(alone, lambda _: ()) == [{"A": "1", "B": "2"}]


def test_combination_is_plain_text_for_other_processes(parsed: Parsed) -> None:
    file = parsed('jobs: {t: {image: "a:1", run: x, matrix: {A: [1], include: [{A: 2}]}}}')
    matrix = file.pipeline.jobs["t"].matrix
    assert matrix is not None
    found = matrices.combinations(matrix, lambda _: ())
    assert len(found) == 2
    assert {type(text) for one in found for pair in one.items() for text in pair} == {str}


def test_values_are_put_in_once_each_in_its_place(planned: Planned) -> None:
    hostile = "x', needs: [y]} ${SHIPLAP_TAG} $(id)"
    found = planned(
        """
env: {GLOBAL: "${SHIPLAP_BRANCH}"}
jobs:
  app: {build: {tags: ["app:${SHIPLAP_SHORT_COMMIT}"]}}
  a:
    image: "python:${P}-slim"
    matrix: {P: [3.10]}
    needs: app
    env: {B: "${SHIPLAP_BRANCH}", LITERAL: "$${P} $$ $P", LATER: "${P} ${app.IMAGE} $${P}", ME: "${SHIPLAP_JOB}"}
    timeout: ${P}0s
    run: echo ${SHIPLAP_BRANCH} ${P}
""".replace("${P}0s", "3m"),
        branch=hostile,
        facts={"SHIPLAP_BRANCH": hostile, "SHIPLAP_TAG": "t", "SHIPLAP_SHORT_COMMIT": "0123"},
    )
    app, job = (one.job for one in found.jobs)
    assert app.build is not None
    assert app.build.tags == ("app:0123",)
    assert job.image is not None
    assert job.image.reference == "python:3.10-slim"
    assert job.env == {
        "B": hostile, "LITERAL": "${P} $$ $P", "LATER": "${P} ${app.IMAGE} $${P}", "ME": "a (3.10)",
        "GLOBAL": hostile,
    }  # fmt: skip
    assert [value.is_template for value in job.env.values()] == [False, False, True, False, False]  # type: ignore[attr-defined]
    assert job.run == ("echo ${SHIPLAP_BRANCH} ${P}",)


def test_value_that_does_not_fit_its_place_is_an_error_there(planned: Planned) -> None:
    text = f"jobs:\n  a: {{{_JOB}, matrix: {{T: [1h, x]}}, timeout: '${{T}}'}}\n"
    with pytest.raises(PipelineFileError, match='expected a duration, such as 90s, 1h30m or 7d, and this is "x"'):
        planned(text)
    with pytest.raises(PipelineFileError, match="no file of a layer is called"):
        planned(
            f"jobs:\n  a: {{{_JOB}, outputs: 'out/${{SHIPLAP_BRANCH}}'}}\n  b: {{{_JOB}, needs: a}}",
            facts={"SHIPLAP_BRANCH": ".wh.x"},
        )
    with pytest.raises(PipelineFileError, match="stays within the workspace"):
        planned(f"jobs:\n  a: {{{_JOB}, inputs: 'x/${{SHIPLAP_BRANCH}}'}}", facts={"SHIPLAP_BRANCH": "../../etc"})


_WHEN = f"jobs:\n  a: {{{_JOB}, when: %s}}\n"


@pytest.mark.parametrize(
    ("when", "event", "reason"),
    [
        ("{branch: main}", Event("push", "main"), None),
        ("{branch: main}", Event("push", "dev"), "it is not for branch dev"),
        ("{branch: 'release/**'}", Event("push", "release/1/x"), None),
        ("{branch: ['!main']}", Event("push", "dev"), None),
        ("{branch: main}", Event("tag", tag="v1"), "there is no branch"),
        ("{tag: 'v*'}", Event("tag", tag="v1"), None), ("{tag: 'v*'}", Event("tag", tag="x"), "it is not for tag x"),
        ("{target: main}", Event("pull_request", "x", "main", runs_pushes=False), None),
        ("{target: main}", Event("push", "main"), "there is no target"),
        ("{event: [push, tag]}", Event("manual"), "it is not for manual"),
        ("{event: local}", Event("local"), None),
        ("{fork: false}", Event("pull_request", is_fork=True), "it is not for forks"),
        ("{fork: true}", Event("pull_request", runs_pushes=False), "it is for forks only"),
        ("{paths: src}", Event("push", changed=lambda: ["src/a/b"]), None),
        ("{paths: src}", Event("push", changed=lambda: ["doc/a"]), "no file that it is about has changed"),
        ("{paths: src}", Event("push", changed=lambda: None), None),
        ("[{branch: main}, {event: tag}]", Event("tag", tag="v1"), None),
        ("[{branch: main}, {event: tag}]", Event("push", "x"), "it is not for branch x"),
        ("[{event: tag}, {branch: main}]", Event("push", "x"), "it is not for push"),
        ("{branch: '**'}", Event("tag", tag="v1"), "there is no branch"),
        ("{tag: '**'}", Event("push", "x"), "there is no tag"),
        ("{fork: true}", Event("pull_request", is_fork=True), None),
        ("{fork: false}", Event("push", "x"), None),
    ],
)  # fmt: skip
def test_when_decides_what_is_in_a_run(parsed: Parsed, when: str, event: Event, reason: str | None) -> None:
    found = plan(parsed(_WHEN % when), event)
    assert found.left_out == ({} if reason is None else {"a": reason})
    assert bool(found.jobs) == (reason is None)
    assert found.reason == ("" if reason is None else "no job of the pipeline is for this")


def test_what_needs_something_left_out_is_left_out_too(planned: Planned) -> None:
    found = planned(f"""jobs:
  a: {{{_JOB}, when: {{branch: main}}}}
  b: {{{_JOB}, needs: a}}
  c: {{{_JOB}, needs: [b, "a?"]}}
  d: {{{_JOB}, needs: ["a?", "b?"]}}
  m: {{{_JOB}, matrix: {{X: [1, 2]}}, when: {{matrix: {{X: 1}}}}}}
  n: {{{_JOB}, needs: m}}
  o: {{{_JOB}, needs: m (2)}}
  p: {{{_JOB}, matrix: {{D: {{directories: "none/*"}}}}}}
  q: {{{_JOB}, needs: p}}
  i: {{build: ., when: {{branch: main}}}}
  j: {{run: x, image: {{job: i}}}}
""", branch="dev")  # fmt: skip
    assert shape(found) == {"d": (), "m (1)": (), "n": ("m (1)",)}
    assert found.left_out == {
        "a": "it is not for branch dev", "b": "it needs a, which is left out", "c": "it needs b, which is left out",
        "m (2)": "it is not for X=2", "o": "it needs m (2), which is left out", "p": "its matrix has no values here",
        "q": "it needs p, which is left out", "i": "it is not for branch dev", "j": "it needs i, which is left out",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("on", "event", "reason"),
    [
        ("push", Event("push", "x"), ""), ("push", Event("tag"), "the pipeline does not listen to tag"),
        ("push", Event("local"), ""),
        ("{push: {branches: main}}", Event("push", "x"), "the pipeline is not for branch x"),
        ("{pull_request: {branches: main}}", Event("pull_request", "x", "main"), ""),
        ("{pull_request: {branches: main}}", Event("pull_request", "main", "x"), "the pipeline is not for branch x"),
        ("{tag: {tags: 'v*'}}", Event("tag", tag="x"), "the pipeline is not for tag x"),
        ("{push: {paths: s}}", Event("push", changed=lambda: ["a"]), "no file that the pipeline is about has changed"),
        ("push", Event("push", title="docs [skip ci]"), "[skip ci] is in the commit's title"),
        ("push", Event("push", title="docs [SKIP CI] x"), "[skip ci] is in the commit's title"),
        ("pull_request", Event("pull_request", title="[skip ci]"), "[skip ci] is in the commit's title"),
        ("[tag, manual]", Event("tag", title="[skip ci]"), ""),
        ("[tag, manual]", Event("manual", title="[skip ci]"), ""),
        ("push", Event("push", title="skip ci, (skip ci)"), ""),
    ],
)  # fmt: skip
def test_pipeline_without_anything_to_do_says_why(parsed: Parsed, on: str, event: Event, reason: str) -> None:
    assert plan(parsed(f"on: {on}\njobs:\n  a: {{{_JOB}}}\n"), event).reason == reason


def test_most_jobs_of_a_run_count_those_of_matrices(planned: Planned) -> None:
    many = "".join(f"  m{n}: {{{_JOB}, matrix: {{X: {list(range(64))}}}}}\n" for n in range(4))
    assert len(planned(f"jobs:\n{many}").jobs) == 256
    with pytest.raises(PipelineFileError, match="a run has at most 256 jobs"):
        planned(f"jobs:\n{many}  a: {{{_JOB}}}\n")
    with pytest.raises(PipelineFileError, match="has 65 combinations here"):
        planned(
            f"jobs:\n  a: {{{_JOB}, matrix: {{D: {{directories: 's/*'}}}}}}\n",
            directories=lambda _: tuple(f"s/{n}" for n in range(65)),
        )


def test_directories_are_those_of_the_tree(tmp_path: Path) -> None:
    for name in ("services/a/src", "services/b", "services/.hidden", "other/c", ".git/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "services/file").write_text("")
    (tmp_path / "services/link").symlink_to("/etc")
    assert directories_of(tmp_path, "services/*") == (".hidden", "a", "b")
    assert directories_of(tmp_path, "*/[ac]") == ("other/c", "services/a")
    assert directories_of(tmp_path, "**/src") == ("services/a/src",)
    assert directories_of(tmp_path, "services/**/src") == ("a/src",)
    assert directories_of(tmp_path, "services/a") == ("a",)
    assert directories_of(tmp_path, "other") == ("other",)
    assert directories_of(tmp_path, "nothing/*") == ()


def test_references_are_names_between_braces() -> None:
    assert references("a ${B} $${C} ${job-1.D} $E") == [Placeholder("B", "", 2, 6), Placeholder("D", "job-1", 13, 23)]
    assert [is_open(text) for text in ("${A}", "$${A}", "$$${A}", "$A", "${")] == [True, False, False, False, True]
    for bad in ("${", "${}", "${a b}", "${A", "${1}", "${a.b.c}", "${a.}"):
        with pytest.raises(BadReferenceError):
            references(bad)


def test_replacing_is_done_once_and_for_all_or_not_yet() -> None:
    values = {"A": "${B}", "B": "$${A}"}
    assert replace("${A}${B} $${A} $", lambda found: values[found.name]) == "${B}$${A} ${A} $"
    assert replace("${A} ${later.X} $${A}", lambda found: None if found.job else "a") == "${A} ${later.X} $${A}"


@pytest.mark.parametrize(
    ("on", "branch", "members", "is_run"),
    [
        ("[push, pull_request]", "x", {}, False),
        ("[push, pull_request]", "x", {"is_fork": True}, True),
        ("[push, pull_request]", "x", {"runs_pushes": False}, True),
        ("{push: {branches: main}, pull_request: }", "x", {}, True),
        ("{push: {branches: [main, 'feature/**']}, pull_request: }", "feature/x", {}, False),
        ("pull_request", "x", {}, True),
    ],
)
def test_commit_of_an_own_pull_request_is_run_once(
    planned: Planned, on: str, branch: str, members: dict[str, bool], is_run: bool
) -> None:
    text = f"on: {on}\njobs: {{a: {{{_JOB}}}}}"
    asked = {"branch": branch, "target": "main", **members}
    found = planned(text, "pull_request", **asked)
    assert bool(found.jobs) == is_run
    assert found.reason == ("" if is_run else "the push of its branch runs it")


@pytest.mark.parametrize(
    ("on", "event", "is_run_otherwise"),
    [
        ("[push, pull_request]", Event("pull_request", "x", "main"), True),
        ("push", Event("pull_request", "x", "main"), True),
        ("{push: {branches: main}}", Event("pull_request", "x", "main"), False),
        ("push", Event("pull_request", "x", "main", runs_pushes=False), False),
        ("push", Event("pull_request", "x", "main", is_fork=True), False),
        ("{push: {branches: main}, pull_request: }", Event("push", "x"), True),
        ("{push: {branches: main}}", Event("push", "x"), False),
        ("{push: {paths: s}, pull_request: }", Event("push", "x", changed=list), False),
        ("[push, pull_request]", Event("push", "x", title="[skip ci]"), False),
        ("push", Event("tag", tag="v1"), True),
        ("{tag: {tags: 'v*'}, push: }", Event("tag", tag="x"), True),
        ("manual", Event("tag", tag="x"), False),
    ],
)  # fmt: skip
def test_nothing_is_said_of_a_commit_that_another_event_runs(
    parsed: Parsed, on: str, event: Event, is_run_otherwise: bool
) -> None:
    found = plan(parsed(f"on: {on}\njobs:\n  a: {{{_JOB}}}\n"), event)
    assert found.reason
    assert found.is_run_otherwise == is_run_otherwise


def test_jobs_have_names_although_none_is_run(parsed: Parsed) -> None:
    text = f"""jobs:
  a: {{{_JOB}, when: {{branch: main}}}}
  m: {{{_JOB}, matrix: {{X: [1, 2]}}}}
  d: {{{_JOB}, matrix: {{D: {{directories: "none/*"}}}}}}
"""
    assert names(parsed(text), Event("push", "x")) == ["a", "m (1)", "m (2)", "d"]


_DEPLOYMENT = """
env: {GLOBAL: "${SHIPLAP_BRANCH}"}
jobs:
  app: {build: ., needs: version}
  version: {image: "b:1", run: x, exports: [NUMBER, AFTER]}
  deploy:
    needs: app
    matrix: {WHERE: [eu]}
    image: "tools:${version.NUMBER}"
    env: {TEXT: "${WHERE} ${app.IMAGE} $${WHERE} ${SHIPLAP_BRANCH}"}
    timeout: ${version.AFTER}
    run: echo ${version.NUMBER}
"""


def test_exports_are_put_in_when_they_are_there_all_values_at_once(planned: Planned) -> None:
    """What travels to a worker says the same there, and a value that looks like a reference is none."""
    facts = {"SHIPLAP_BRANCH": "${app.IMAGE} ${version.SECRET}"}
    found = planned(_DEPLOYMENT, branch="b", facts=facts)
    deploy = next(one for one in found.jobs if one.base == "deploy")
    moved = PlannedJob.from_data(msgspec.json.decode(msgspec.json.encode(deploy.to_data())), facts)
    assert moved == deploy
    exports = {"app": {"IMAGE": "r/app@${WHERE}"}, "version": {"NUMBER": "1.2", "AFTER": "90s"}}
    for one in (deploy, moved):
        job = one.settled(facts, exports)
        assert job.image is not None
        assert job.image.reference == "tools:1.2"
        assert job.env == {
            "TEXT": "eu r/app@${WHERE} ${WHERE} ${app.IMAGE} ${version.SECRET}", "GLOBAL": facts["SHIPLAP_BRANCH"],
        }  # fmt: skip
        assert job.timeout_s == 90
        assert job.run == ("echo ${version.NUMBER}",)


@pytest.mark.parametrize(
    ("exports", "error"),
    [
        ({"app": {"IMAGE": "i"}, "version": {"AFTER": "1s"}},
         ('.shiplap.yml:9:12: error: ${version.NUMBER} has no value in this run ("version" has not written NUMBER to '
         '$SHIPLAP_EXPORTS, or has failed)\n 9 |     image: "tools:${version.NUMBER}"\n'
         "   |            ^^^^^^^^^^^^^^^^^^^^^^^^^")),
        ({"app": {"IMAGE": "i"}, "version": {"NUMBER": "a b", "AFTER": "1s"}},
         ('.shiplap.yml:9:12: error: expected the name of an image, and this is "tools:a b"\n'
         ' 9 |     image: "tools:${version.NUMBER}"\n   |            ^^^^^^^^^^^^^^^^^^^^^^^^^')),
        ({"app": {"IMAGE": "i"}, "version": {"NUMBER": "1", "AFTER": "7h"}},
         (".shiplap.yml:11:14: error: at most 6h, and more than nothing; this is 7h\n"
         "11 |     timeout: ${version.AFTER}\n   |              ^^^^^^^^^^^^^^^^")),
    ],
)  # fmt: skip
def test_export_that_does_not_fit_is_an_error_at_its_place(
    planned: Planned, exports: dict[str, dict[str, str]], error: str
) -> None:
    deploy = next(one for one in planned(_DEPLOYMENT).jobs if one.base == "deploy")
    moved = PlannedJob.from_data(deploy.to_data(), {})
    with pytest.raises(PipelineFileError) as caught:
        moved.settled({}, exports)
    assert [line.strip() for line in caught.value.render().split("\n")] == [line.strip() for line in error.split("\n")]
