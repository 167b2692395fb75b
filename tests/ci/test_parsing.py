"""Pipeline files: what is wrong is told all at once, with its place and the next step."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ci import meeting
from ci.errors import PipelineFileError
from ci.model import Directories, Image, ImageBuild, Limits, Output, Refs, Retry, Secret
from ci.parsing import ParsedFile
from ci.problems import Problem

Lint = Callable[[str], str]
Parsed = Callable[[str], ParsedFile]

_JOB = "jobs:\n  a:\n    image: busybox:1\n    run: 'true'\n"
_NO_FORKS = "jobs:\n  a: {build: ., when: {fork: false}}\n  b: {build: ., needs: a}\n"
"""A file that is in order; further keys of the job may follow."""


def errors(shown: str) -> list[str]:
    """The lines of what is printed that have a problem, without the file's name."""
    return [line.partition(":")[2] for line in shown.split("\n") if line.startswith(".shiplap.yml:")]


def test_whole_file_becomes_what_it_says(parsed: Parsed) -> None:
    text = """
on: {push: {branches: [main, "release/**"], paths: src}, tag: , manual: {}}
env: {VERSION: 3.10, EMPTY: }
timeout: 1h30m
stop_on_failure: true
statuses: jobs
source: {history: 50, submodules: true}
x-limits: &small {memory: 512m, cpus: 0.5}
defaults: {image: "busybox:1", shell: bash, env: {FOO: default, VERSION: 3.9}, outputs: []}
jobs:
  one:
    inputs: ["src/**", "!src/*.md"]
    run: [make, make test]
    env: {FOO: own}
    limits: *small
    outputs: ["build/**", {path: "*.whl", into: wheels, optional: true}]
    exports: [NAME]
    secrets: [TOKEN, {name: key.pem, file: /run/key, optional: true}, {name: A, as: B}]
    retry: {times: 2, on: [timeout, 137]}
    grace: 30s
  two:
    image: {build: {context: ci, args: {A: 1}}}
    args: [python, -m, "thing"]
    needs: [one, "three?"]
    shell: sh
  three:
    build: images/app
    matrix: {DIR: {directories: "services/*"}, OS: [a, b], exclude: [{OS: b}], max_parallel: 2}
"""
    with pytest.raises(Exception, match="a job with `args` has no use for `shell`"):
        parsed(text)
    file = parsed(text.replace("    shell: sh\n", ""))
    pipeline = file.pipeline
    one, two, three = pipeline.jobs.values()
    assert (pipeline.name, pipeline.timeout_s, pipeline.stop_on_failure, pipeline.statuses) == (
        "main",
        5400,
        True,
        "jobs",
    )
    assert pipeline.on == {"push": Refs(("main", "release/**"), None, ("src",)), "tag": Refs(), "manual": Refs()}
    assert pipeline.env == {"VERSION": "3.10", "EMPTY": ""}
    assert (pipeline.source.history, pipeline.source.submodules, pipeline.source.lfs) == (50, True, False)
    assert (one.run, one.shell, one.image) == (("make", "make test"), "bash", Image("busybox:1"))
    assert one.env == {"FOO": "own", "VERSION": "3.9", "EMPTY": ""}
    assert one.inputs == ("src/**", "!src/*.md")
    assert one.limits == Limits(memory=512 << 20, cpus=0.5)
    assert one.outputs == (Output("build/**"), Output("*.whl", "wheels", optional=True))
    assert one.secrets == (Secret("TOKEN"), Secret("key.pem", file="/run/key", optional=True), Secret("A", "B"))
    assert (one.retry, one.grace_s, one.timeout_s) == (Retry(2, ("timeout", "137")), 30, 3600)
    assert two.image == Image(build=ImageBuild("ci", args={"A": "1"}))
    assert [(need.job, need.is_optional) for need in two.needs] == [("one", False), ("three", True)]
    assert two.args == ("python", "-m", "thing")
    assert three.build is not None
    assert three.build.context == "images/app"
    assert three.matrix is not None
    assert three.matrix.lists == {"DIR": Directories("services/*"), "OS": ("a", "b")}
    assert (three.matrix.exclude, three.matrix.max_parallel) == (({"OS": "b"},), 2)


def test_all_errors_of_a_file_are_told_at_once_each_with_a_caret(lint: Lint) -> None:
    shown = lint("""jobs:
  lint: {image: "busybox:1", run: "true"}
  app:
    needs: [lnit, lint]
    image: "busybox:1"
    rumn: make
    timeout: 3 hours
    env: {CI: x}
    engine: maybe
""")
    assert errors(shown) == [
        "4:5: error: a job has one of `run`, `args`, `build`, `approve` and `use`: what it does",
        '4:13: error: no job "lnit" (did you mean "lint"?)',
        '6:5: error: no key of a job is called "rumn" (did you mean "run"?)',
        '7:14: error: expected a duration, such as 90s, 1h30m or 7d, and this is "3 hours"',
        "8:11: error: CI is set by Shiplap; variables called CI or SHIPLAP_… cannot be set",
        '9:13: error: expected true or false, and this is "maybe"',
    ]
    assert "  6 |     rumn: make\n    |     ^^^^\n" in shown


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("needs: b", '5:12: error: no job "b"'),
        ("needs: a", "5:12: error: a job cannot need itself"),
        ("needs: a (1)", "5:12: error: a job cannot need itself"),
        ("image2: x", 'no key of a job is called "image2" (did you mean "image"?)'),
        ("build: .", "5:5: error: a job has either `run` or `build`"),
        ("after: suxcess", 'expected success, failure or always, and this is "suxcess" (did you mean "success"?)'),
        ("tty: yes", 'expected true or false, and this is "yes"'),
        ("tty:", "expected true or false, and this is nothing"),
        ("retry: 11", "expected a whole number from 0 to 10"),
        ("retry: {on: [sometimes]}", "expected failure, timeout or an exit code"),
        ("timeout: 7h", "at most 6h"), ("grace: 0s", "more than nothing"), ("timeout: 5", "expected a duration"),
        ("limits: {memory: lots}", "expected a size, such as 512m or 2g"),
        ("limits: {cpus: 0}", "expected a number above 0"),
        ("shell: it's", "a shell is a command, and this has no closing quotation"),
        ("shell: ' '", "a shell is a command, and this has no word in it"),
        ("workdir: src", "a path within the container begins with /"),
        ("workdir: /work/../etc", "a path within the container has no .. in it"),
        ("inputs: /etc", "a path is relative, and stays within the workspace"),
        ("inputs: [../x]", "a path is relative"), ("inputs: [a, '!../x']", "a path is relative"),
        ("outputs: [a/../../b]", "a path is relative"),
        ("outputs: [a/.wh.b]", "no file of a layer is called .wh."),
        ("outputs: {path: a, name: a/b}", "expected a name of letters, digits, `.`, `_` and `-`"),
        ("outputs: {path: a, keep: 3d}", "only what is for people is kept for a time, and has a `name`"),
        ("outputs: {path: a, on: failure}", "what is taken of failures is for people, and has a `name`"),
        ("outputs: {path: a, name: x, keep: 2y}", "expected a duration"),
        ("outputs: {path: a, name: x, keep: 366d}", "at most 365d"),
        ("outputs: {path: a, preview: true}", "what a mark opens is for people, and has a `name`"),
        ("outputs: {path: a, name: x, preview: maybe}", "expected true or false"),
        ("inputs: ['a[']", "5:14: error: "), ("inputs: []", "a list of at least 1, and this has 0"),
        ("inputs: ['']", "expected a pattern of files"),
        ("exports: [A-B]", "expected the name of a variable"),
        ("secrets: ['${X}']", "expected the name of a secret"),
        ("secrets: [{as: X}]", "a secret has no name"),
        ("secrets: [{name: A, as: SHIPLAP_X}]", "SHIPLAP_X is set by Shiplap"),
        ("network: host", "expected default or none"),
        ("platform: amiga", "5:15: error: expected a platform, such as linux/arm64"),
        ("workers: [a, b, c, d, e, f]", "a list of at most 5, and this has 6"),
        ("approve: Ship it?", "a job has either `run` or `approve`"), ("engine: 1", "expected true or false"),
        ("engine: true\n    network: none", "a job with `network: none` has no `engine`"),
        ("engine: true\n    env: {DOCKER_HOST: x}", "a job with `engine` is told its DOCKER_HOST"),
        ("engine: true\n    inputs: x", "whatever the images that its engine fetches have become by then"),
        ("caches: [/]", "/ cannot be kept"), ("caches: /work", "/work cannot be kept"),
        ("caches: [target]", "a path within the container begins with /"),
        ("caches: /proc/x", "/proc/x cannot be kept"),
        ("caches: [/a, /a/b]", "/a/b lies in another cache, or has one in it"),
        ("caches: {path: /a, limit: 0}", "a size"),
        ("caches: [{path: /a, name: x}, {path: /b, name: x}]", "this job has the cache x already"),
        ("use: ./x.yml", "a job has either `run` or `use`"),
        ("concurrency: x", "`concurrency`: a map with group, limit, when_busy"),
        ("matrix: {}", "a matrix has a list of values"),
        ("matrix: {lower: [1]}", 'expected a name in capitals, and this is "lower"'),
        ("matrix: {A: []}", "a list of at least 1"),
        ("matrix: {A: [1], max_parallel: 0}", "a whole number from 1 to 64"),
        ("matrix: {A: [1], exclude: [{B: 1}]}", "the matrix has no B"),
        ("matrix: {A: [1], include: [{B: 1}]}", "a combination to include has no A"),
        ("matrix: {CI: [1]}", "CI is set by Shiplap"),
        (f"matrix: {{A: [{','.join(map(str, range(65)))}]}}", "a list of at most 64, and this has 65"),
        ("matrix: {A: [1,2,3,4,5,6,7,8,9], B: [1,2,3,4,5,6,7,8]}", "at most 64 combinations; this has 72"),
        ("env: {X: '${SHIPLAP_BRNCH}'}", "nothing is called ${SHIPLAP_BRNCH} (did you mean ${SHIPLAP_BRANCH}?)"),
        ("env: {X: '${SHIPLAP_ATTEMPT}'}", "${SHIPLAP_ATTEMPT} is known within a job only"),
        ("env: {X: '${b.NAME}'}", '${b.NAME}: no job "b"'),
        ("env: {X: '${'}", "${ has no } behind it; a literal ${ is written $${"),
        ("env: {X: '${a b}'}", "${a b} names no variable"),
        ("when: {branch: main, evnt: push}", 'no key of `when` is called "evnt" (did you mean "event"?)'),
        ("when: {branch: '${a.X}'}", "is known only when a has run, and this is decided before"),
        ("when: {params: {x: 1}}", "there is no parameter x"),
        ("run: [a, {b: c}]", "expected a command, and this is a map"),
        ("run: ['echo', {echo a: b}]", "(a colon and a space make a map: write the whole text in quotes)"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_job_is_told(lint: Lint, key: str, words: str) -> None:
    text = _JOB.replace("    run: 'true'\n", "") if key.startswith("run:") else _JOB
    assert words in lint(f"{text}    {key}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ".shiplap.yml: error: the file is empty (it has at least `jobs`)"),
        ("- a", "1:1: error: expected a map with `jobs`, and this is a list"),
        ("on: push", "1:1: error: the file has no jobs"),
        ("jobs: {}", "1:7: error: expected a map of jobs, with at least one"),
        ("jobs: [a]", "expected a map of jobs"),
        ("jobs: {Test: {image: b, run: x}}", 'expected the name of a job, and this is "Test"'),
        ("jobs: {a: x}", "1:11: error: expected a job: a map"),
        ("job: {}", 'no key of the file is called "job" (did you mean "jobs"?)'),
        (f"on: pusch\n{_JOB}", '1:5: error: expected push, tag, pull_request or manual, and this is "pusch" (did'),
        (f"on: {{cron: []}}\n{_JOB}", "a list of at least 1"),
        (f"on: {{cron: {{at: 0 0 30 2 *}}}}\n{_JOB}", "it would never happen"),
        (f"on: {{cron: {{at: 0 3 * *}}}}\n{_JOB}", "a time has five fields"),
        (f"on: {{cron: {{at: 0 3 * * *, zone: Berlin}}}}\n{_JOB}", "no such time zone"),
        (f"on: {{cron: {{zone: UTC}}}}\n{_JOB}", "a time has no at"),
        (f"on: {{push: {{branch: main}}}}\n{_JOB}", 'no key of an event is called "branch" (did you mean "branches"?)'),
        (f"params: {{A: x}}\n{_JOB}", "a parameter: a map with"),
        (f"defaults: {{run: x}}\n{_JOB}", 'no key of `defaults` is called "run"'),
        (f"defaults: {{timeout: x}}\n{_JOB}", "1:21: error: expected a duration"),
        (f"source: {{history: some}}\n{_JOB}", "expected a whole number"),
        (f"env: {{A: '${{PYTHON}}'}}\n{_JOB}", "nothing is called ${PYTHON}"),
        (f"env: {{A: '${{a.X}}'}}\n{_JOB}", "${a.X} is known only when a has run"),
        ("jobs: {a: {build: ../x}}", "a path is relative"),
        ("jobs: {a: {build: {context: /x, file: /y}}}", "1:39: error: a path is relative"),
        ("jobs: {a: {run: x}}", "a job that runs something has an `image` (the container's image, such as"),
        ("jobs: {a: {build: ., image: b}}", "a job with `build` has no use for `image`"),
        ("jobs: {a: {build: ., inputs: b}}", "no use for `inputs` (its steps come from the cache by what they copy"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_file_is_told(lint: Lint, text: str, words: str) -> None:
    assert words in lint(text)


def test_jobs_that_wait_for_each_other_are_named_once(lint: Lint) -> None:
    job = "{{image: 'b:1', run: x, needs: {needs}}}"
    found = errors(
        lint(
            "jobs:\n"
            + "".join(f"  {name}: {job.format(needs=needs)}\n" for name, needs in zip("abcd", "bcad", strict=True))
        )
    )
    assert found == [
        "4:36: error: these jobs wait for each other: a → b → c → a",
        "5:36: error: a job cannot need itself",
    ]


def test_job_that_waits_for_its_own_image_is_told_at_the_image(lint: Lint) -> None:
    text = "jobs:\n  a: {build: ., needs: b}\n  b:\n    image: {job: a}\n    run: x\n"
    assert errors(lint(text)) == ["4:18: error: these jobs wait for each other: a → b → a"]
    needed_too = text.replace("    run", "    needs: [c, a]\n    run") + "  c: {image: 'b:1', run: x}\n"
    assert errors(lint(needed_too)) == ["5:16: error: these jobs wait for each other: a → b → a"]


def test_exports_are_known_to_those_who_need_their_job(lint: Lint) -> None:
    text = """jobs:
  one: {image: "b:1", run: x, exports: [NAME]}
  app: {build: .}
  many: {image: "b:1", run: x, matrix: {A: [1]}, exports: [NAME]}
  two:
    image: {job: app}
    needs: [one, many]
    run: x
    env: {A: "${one.NAME}", B: "${app.IMAGE}@${app.DIGEST}", C: "%s"}
"""
    assert not lint(text % "")
    assert '"one" does not export NAMX (did you mean ${one.NAME}?)' in lint(text % "${one.NAMX}")
    assert '"many" has a matrix: which of its jobs is meant?' in lint(text % "${many.NAME}")
    assert '"two" does not need "one" (add it to `needs`)' in lint(text.replace("[one, many]", "many") % "")


def test_needs_of_matrices_name_all_or_one(lint: Lint) -> None:
    text = """jobs:
  test: {image: "b:1", run: x, matrix: {P: [3.11, "3.13"]}}
  plain: {image: "b:1", run: x}
  next: {image: "b:1", run: x, matrix: {P: [3.11]}, needs: ["%s"]}
"""
    for good in ("test", "test (3.11)", "test (${P})", "test?", "test (3.13)?"):
        assert not lint(text % good)
    assert 'the matrix of "test" makes no job "test (3.12)"' in lint(text % "test (3.12)")
    assert '"plain" has no matrix, so there is no job "plain (1)"' in lint(text % "plain (1)")
    assert "`needs` may name values of the job's own matrix only (P)" in lint(text % "test (${SHIPLAP_BRANCH})")


def test_values_of_a_matrix_are_known_in_its_job_and_facts_everywhere(lint: Lint) -> None:
    text = _JOB + "    matrix: {PYTHON: [1]}\n    env: {X: '${%s}'}\n"
    for good in ("PYTHON", "SHIPLAP_BRANCH"):
        assert not lint(text % good)
    assert "nothing is called ${B}" in lint(text % "B")
    assert "nothing is called ${PYTHN} (did you mean ${PYTHON}?)" in lint(text % "PYTHN")


def test_needs_of_a_job_without_a_matrix_name_no_values(lint: Lint) -> None:
    shown = lint(_JOB + "    needs: 'b (${X})'\n  b: {image: 'b:1', run: x, matrix: {X: [1]}}\n")
    assert "`needs` may name values of the job's own matrix only (it has none)" in shown


def test_matrix_is_told_where_it_is_wrong(lint: Lint) -> None:
    assert "5:38: error: the matrix has no PYTHN (did you mean PYTHON?)" in lint(
        _JOB + "    matrix: {PYTHON: [1], exclude: [{PYTHN: 1}]}\n"
    )
    assert "5:5: error: a combination to include has no A" in lint(_JOB + "    matrix: {A: [1], include: [{}]}\n")
    assert "the matrix has no B" in lint(_JOB + "    matrix: {A: [1], include: [{A: 2, B: 1}]}\n")
    axes = ", ".join(f"{name}: [{', '.join(map(str, range(64)))}]" for name in "AB")
    assert "at most 64 combinations; this has 4096" in lint(_JOB + f"    matrix: {{{axes}}}\n")
    axes += f", C: [{', '.join(map(str, range(64)))}]"
    assert "5:5: error: a matrix has at most 64 combinations; this has far more" in lint(
        _JOB + f"    matrix: {{{axes}}}\n"
    )
    assert not lint(_JOB + "    matrix: {A: [1, 2, 3, 4, 5, 6, 7, 8], B: [1, 2, 3, 4, 5, 6, 7, 8]}\n")


def test_variables_of_a_job_lie_above_those_of_defaults_and_of_the_file(lint: Lint, parsed: Parsed) -> None:
    text = "env: {A: f, B: f}\ndefaults: {env: {B: d, C: d}}\n" + _JOB
    assert dict(parsed(text).pipeline.jobs["a"].env) == {"A": "f", "B": "d", "C": "d"}
    assert dict(parsed(text + "    env:\n").pipeline.jobs["a"].env) == {"A": "f", "B": "d", "C": "d"}
    assert dict(parsed(text + "    env: {C: own}\n").pipeline.jobs["a"].env) == {"A": "f", "B": "d", "C": "own"}
    assert "7:10: error: expected a map" in lint(text + "    env: A=1\n"), (
        "what is no map is told, and hidden by nothing"
    )


def test_image_of_a_job_is_one_that_builds(lint: Lint) -> None:
    text = "jobs:\n  a: {image: 'b:1', run: x}\n  m: {build: ., matrix: {A: [1]}}\n  c: {image: {job: %s}, run: x}\n"
    assert '"a" builds no image' in lint(text % "a")
    assert '"m" has a matrix: which of its images is meant?' in lint(text % "m")
    assert 'no job "b"' in lint(text % "b")


def test_templates_are_checked_again_once_they_are_replaced(lint: Lint) -> None:
    """What has ``${…}`` in it may become anything, wherever one value stands."""
    assert not lint(
        _JOB + "    matrix: {T: ['1h']}\n    timeout: ${T}\n    workdir: ${T}\n    after: ${T}\n    retry: ${T}\n"
    )


_MEETING = """
jobs:
  a: {image: "x:1", run: a, outputs: dist}
  b: {image: "x:1", run: b, outputs: [dist, b]}
  c: {image: "x:1", run: c, needs: [a, b]}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs: {a: {image: python, run: x}}", "may be another one tomorrow (name a version, or its digest)"),
        ("jobs: {a: {image: 'x:latest', run: x}}", "this image may be another one tomorrow"),
        ("jobs: {a: {image: 'h:5000/x', run: x}}", "this image may be another one tomorrow"),
        ("jobs: {a: {image: 'h:5000/x:latest', run: x}}", "this image may be another one tomorrow"),
        (_JOB + "    when: {event: pull_request}\n    secrets: [KEY]\n", "also runs for forks, which get no secrets"),
        (_JOB + "    when: [{fork: false}, {event: pull_request}]\n    secrets: [KEY]\n", "also runs for forks"),
        (_JOB + "    outputs: build/**\n", 'no job needs "a", so nobody takes its outputs'),
        ("on: push\n" + _JOB + "    when: {event: tag}\n", "this pipeline does not listen to tag: see `on`"),
        ("on: push\n" + _JOB + "    when: {tag: v*}\n", "this never holds"),
        ("on: push\n" + _JOB + "    when: {target: main}\n", "no event that is meant here has a target"),
        (_JOB + "    when: {event: tag, branch: main}\n", "a tag has no branch: this never holds"),
        (_JOB + "    when: {event: pull_request, fork: false}\n", "own pull requests are run by their pushes here"),
        (_JOB.replace("'true'", "echo ${SHIPLAP_TAG}") + "    inputs: src\n", "with `inputs` does not get SHIPLAP_TAG"),
        (_JOB + "    secrets: [KEY]\n", "also runs for forks, which get no secrets"),
        ("jobs: {a: {image: 'b:1', run: x, when: {event: push}}, c: {image: 'b:1', run: x, needs: a?, secrets: [K]}}",
         "also runs for forks, which get no secrets"),
        (_JOB + "    matrix: {A: [1], exclude: [{A: 1}]}\n", "all combinations of this matrix are excluded"),
        (_MEETING, '"a" and "b" both output dist, and "c" needs both: it fails when they differ (let one need'),
        (_MEETING.replace("run: c", "run: c, inputs: [dist/x]"), '"a" and "b" both output dist, and "c" needs both'),
        (_MEETING.replace("run: a", "run: a, matrix: {A: [1, 2]}").replace("[dist, b]", "b"),
         'all jobs of the matrix output dist, and "c" needs them: it fails when they differ (give each a directory'),
        ("jobs: {a: {build: a}, b: {build: b}}", ':1:27: warning: "a" pushes the project\'s names, too: the last one'),
        ("jobs: {a: {build: a, matrix: {A: [1, 2]}}}", "all jobs of the matrix push the project's names: the last one"),
        ("jobs: {a: {build: {context: a, tags: [app]}}, b: {build: {context: b, tags: [b, app]}}}",
         '"a" pushes the name app, too: the last one to end has it (give it `tags` of its own, or `push: false`)'),
        ("x-b: &b {context: a, tags: ['app:${SHIPLAP_TAG}']}\njobs: {a: {build: *b}, b: {build: *b}}",
         '"a" pushes the name app:${SHIPLAP_TAG}, too'),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_a_warning_and_no_error(lint: Lint, parsed: Parsed, text: str, words: str) -> None:
    assert parsed(text)
    shown = lint(text)
    assert words in shown
    assert ": error: " not in shown


@pytest.mark.parametrize("value", ["!docs/**", "*docs"])
def test_pattern_without_its_quotes_is_one_mistake_and_no_second(lint: Lint, value: str) -> None:
    assert lint(_JOB + f"    inputs: {value}\n").count(": error: ") == 1


@pytest.mark.parametrize(
    "text",
    [
        "jobs: {a: {build: a}, b: {build: {context: b, push: false}}}",
        "jobs: {a: {build: {context: a, tags: [a]}}, b: {build: b}}",
        "jobs: {a: {build: a, when: {branch: main}}, b: {build: b, when: {event: tag}}}",
        "jobs: {a: {build: {context: a, tags: ['app:${A}', 'app:${SHIPLAP_JOB}']}, matrix: {A: [1, 2]}}}",
        "jobs: {a: {build: a, matrix: {A: [1]}}}",
    ],
)
def test_images_with_names_of_their_own_are_no_warning(lint: Lint, text: str) -> None:
    assert lint(text) == ""


def test_how_much_is_looked_at_for_outputs_that_meet_is_bounded(lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    """255 jobs, each with 150 outputs, are 4.8 million pairs."""
    asked = 0

    def are_beside(self: object, one: str, other: str) -> bool:
        nonlocal asked
        asked += 1
        return real(self, one, other)

    real: Callable[[object, str, str], bool] = meeting._Takers.are_beside  # type: ignore[assignment]
    monkeypatch.setattr(meeting._Takers, "are_beside", are_beside)
    text = "x-o: &o [" + ", ".join(f"d{n}" for n in range(150)) + "]\njobs:\n"
    text += "".join(f"  j{n}: {{image: 'x:1', run: x, outputs: *o}}\n" for n in range(255))
    assert ": error: " not in lint(text)
    assert 0 < asked <= 300


@pytest.mark.parametrize(
    "text",
    [
        _JOB, _JOB + "    secrets: [KEY]\n    when: {fork: false}\n",
        _MEETING.replace("[dist, b]", "dist/b"), _MEETING.replace("run: b", "run: b, needs: a"),
        _MEETING.replace("run: c", "run: c, inputs: [src]"), _MEETING.replace("needs: [a, b]", "needs: [a, b?]")
        .replace("run: b", "run: b, when: {branch: x}"),
        _MEETING.replace("[dist, b]", "[{path: dist, into: b}]"),
        _MEETING.replace("[dist, b]", "b").replace("outputs: dist", "matrix: {A: [1, 2]}, outputs: 'd/${A}'"),
        _JOB + "    secrets: [{name: KEY, optional: true}]\n",
        _NO_FORKS + "  c: {image: {job: b}, run: x, secrets: [K]}\n",
        "on: {push: {branches: main}, pull_request: }\n" + _JOB + "    when: {event: pull_request, fork: false}\n",
        _JOB + "    when: {event: [push, local]}\n", _JOB + "    inputs: src\n    env: {B: '${SHIPLAP_BRANCH}'}\n",
        f"jobs: {{a: {{image: 'x@sha256:{'0' * 64}', run: x}}, c: {{build: .}}}}",
        "jobs: {a: {image: '${SHIPLAP_PROJECT}', run: x}}", "jobs: {a: {image: 'h:5000/x:1', run: x}}",
        _JOB + "    secrets: [KEY]\n    when: {event: push}\n", "on: push\n" + _JOB + "    secrets: [KEY]\n",
        _JOB + "    secrets: [KEY]\n    when: [{event: push}, {fork: false}]\n",
        _JOB + "    when: {event: [tag, manual], tag: v*}\n", _JOB + "    when: {event: local, tag: v*}\n",
        _JOB + "    when: {event: [tag, push], branch: main}\n",
    ],
)  # fmt: skip
def test_what_is_meant_has_no_warning(lint: Lint, text: str) -> None:
    assert not lint(text)


def test_most_jobs_and_most_problems(lint: Lint) -> None:
    jobs = "jobs:\n" + "".join(f"  j{n}: {{image: 'b:1', run: x}}\n" for n in range(257))
    assert "a file has at most 256 jobs" in lint(jobs)
    assert not lint(jobs.replace("  j256: {image: 'b:1', run: x}\n", ""))
    job = f"{{image: 'b:1', run: x, matrix: {{A: {list(range(60))}}}"
    many = "jobs:\n" + "".join(f"  m{n}: {job}}}\n" for n in range(4))
    assert not lint(f"{many}  tagged: {job}, when: {{event: tag}}}}\n")
    assert "7:3: error: a run has at most 256 jobs" in lint(f"{many}  a: {{build: .}}\n  m4: {job}}}\n")
    wrong = "jobs:\n" + "".join(f"  j{n}: {{image: 'b:1', run: x, wrong{n}: 1}}\n" for n in range(200))
    shown = lint(wrong)
    assert len(errors(shown)) == 101
    assert "100 more problems are not shown" in shown


def test_long_chain_of_needs_is_no_trouble(lint: Lint) -> None:
    jobs = "".join(f"  j{n}: {{image: 'b:1', run: x, needs: [{f'j{n + 1}' if n < 255 else ''}]}}\n" for n in range(256))
    assert not lint("jobs:\n" + jobs)


def test_a_problem_says_its_line() -> None:
    assert str(Problem("error", "no", None, "do")) == "error: no (do)"
    assert re.fullmatch("warning: w", str(Problem("warning", "w", None)))


def test_one_line_names_the_first_error_and_how_many_more_there_are(parsed: Parsed) -> None:
    """A warning before it is none; what is wrong with the whole file comes first."""
    for keys, more in (("tty: perhaps", ""), ("tty: perhaps, timeout: x, grace: y", " (and 2 more)")):
        with pytest.raises(PipelineFileError) as refused:
            parsed(f"jobs: {{a: {{image: python, run: x, {keys}}}}}")
        assert str(refused.value.message).endswith(f'expected true or false, and this is "perhaps"{more}')
    many = "".join(f"  j{number}: {{image: 'b:1', run: x, tty: perhaps}}\n" for number in range(200))
    with pytest.raises(PipelineFileError) as refused:
        parsed(f"jobs:\n{many}")
    assert refused.value.message.endswith("(and 199 more)"), "also of those that are not shown"
    assert len(refused.value.problems) == 200


def test_hint_for_a_variable_that_inputs_take_away_can_be_followed(lint: Callable[[str], str]) -> None:
    text = "jobs:\n  a:\n    image: b:1\n    inputs: x\n    run: echo $SHIPLAP_BRANCH\n"
    said = lint(text)
    assert '`env: {BRANCH: "${SHIPLAP_BRANCH}"}` brings it by that name' in said
    followed = text.replace(
        "    run: echo $SHIPLAP_BRANCH", '    env: {BRANCH: "${SHIPLAP_BRANCH}"}\n    run: echo $BRANCH'
    )
    assert lint(followed) == ""


def test_needs_of_a_job_that_cannot_be_read_are_checked_as_well(lint: Lint) -> None:
    shown = lint(
        "jobs:\n"
        "  first: {image: a:1, run: x, needs: last}\n"
        "  test:\n    image: {job: frist}\n    run: x\n    inptus: [a]\n    needs: [tset, first, Bad Name]\n"
        "  last: {image: a:1, rnu: x, needs: first}\n"
    )
    assert [line.partition(" error: ")[2] for line in errors(shown)] == [
        'no job "frist" (did you mean "first"?)',
        'no key of a job is called "inptus" (did you mean "inputs"?)',
        'no job "tset" (did you mean "test"?)',
        'expected the name of a job, and this is "Bad Name"',
        "a job has one of `run`, `args`, `build`, `approve` and `use`: what it does",
        'no key of a job is called "rnu" (did you mean "run"?)',
        "these jobs wait for each other: first → last → first",
    ]
