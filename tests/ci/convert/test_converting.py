"""Files of other systems become pipelines that lint, or are refused with a place, whatever is in them."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.convert.converting import DIALECTS, Converted, Dialect, convert
from ci.convert.foreign import MAX_TEXT
from ci.convert.yamltext import scalar
from ci.document import MAX_BYTES, MAX_DEPTH
from ci.errors import PipelineFileError
from ci.parsing import ParsedFile, parse_pipeline
from tests.ci.convert.examples import EXAMPLES, PLACE, converted, golden
from tests.fuzz.run import mutations


def lints(text: str) -> ParsedFile:
    return parse_pipeline(text.encode(), "made.yml")


def made(dialect: Dialect, text: str | bytes) -> Converted:
    data = text if isinstance(text, bytes) else text.encode()
    found = convert(dialect, data, "theirs.yml", "main")
    lints(found.text)
    return found


def told(found: Converted) -> str:
    return "\n".join(found.remarks.lines())


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_becomes_what_it_became(example: str) -> None:
    found = converted(example)
    assert found.text == golden(example).read_text()
    assert lints(found.text).pipeline.jobs


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_remark_has_a_line_of_the_file(example: str) -> None:
    found = converted(example)
    lines = (PLACE / example).read_text().splitlines()
    for remark in found.remarks.in_order():
        assert 1 <= remark.span.start.line <= len(lines)
        assert remark.message
    shown = found.remarks.render()
    assert all(f":{remark.span}: " in shown for remark in found.remarks.in_order())


def test_there_are_examples_of_every_system() -> None:
    assert {example.partition("/")[0] for example in EXAMPLES} == set(DIALECTS)


def _lints_or_is_refused(dialect: Dialect, data: bytes) -> bool:
    try:
        made(dialect, data)
    except PipelineFileError as refused:
        words = refused.render()
    else:
        return True
    assert words.startswith("theirs.yml"), "it says which file"
    return False


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_is_damaged_lints_or_is_refused(dialect: Dialect) -> None:
    corpus = [(PLACE / example).read_bytes() for example in EXAMPLES if example.startswith(dialect)]
    source = mutations(corpus, random.Random(f"convert {dialect}"))
    outcomes = [_lints_or_is_refused(dialect, next(source)) for _ in range(250)]
    assert any(outcomes), "some mutations leave a file that is understood"


_TEXT_OF_WORDS = """
jobs steps image run commands script when if on needs depends_on uses with env environment services
matrix strategy event branch push main include exclude rules only except extends stage stages
artifacts paths name cache key path test build deploy default variables workflow trigger kind
pipeline settings from_secret parallel retry timeout container options runs-on ubuntu-latest outputs
secrets status failure always before_script after_script user actions/checkout@v4 actions/cache@v4
actions/setup-python@v5 docker/build-push-action@v6 plugins/docker actions/upload-artifact@v4
concurrency group tags allow_failure coverage
"""
_WORDS = _TEXT_OF_WORDS.split()
_TEXTS = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from(["${{ matrix.a }}", "${{", "${X}", "$${X}", "*", "!x", "../..", "", "~", "true", "0", "\x85",
                     "a: b", "${{ github.sha }}", "'", '"', "#", "- x", "\t", "é\u2028", "<<", "CI",
                     "SHIPLAP_X", "\x07"]),
    st.text(max_size=8),
)  # fmt: skip
_NODES = st.recursive(
    _TEXTS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=5)),
    max_leaves=25,
)


def _as_yaml(value: Any) -> str:
    """A value between brackets."""
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    return "{" + ", ".join(f"{scalar(name)}: {_as_yaml(inner)}" for name, inner in value.items()) + "}"


@given(st.sampled_from(DIALECTS), st.dictionaries(_TEXTS, _NODES, max_size=6), st.lists(_NODES, max_size=4))
@settings(deadline=None, max_examples=300)
def test_any_tree_of_their_words_lints_or_is_refused(dialect: Dialect, tree: dict[str, Any], steps: list[Any]) -> None:
    whole = {
        "woodpecker": {"steps": steps, **tree},
        "drone": {"kind": "pipeline", "type": "docker", **tree, "steps": steps},
        "github": {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-latest", **tree, "steps": steps}}},
        "gitlab": {"image": "a:1", "b": {"script": "x", **tree}, **tree},
    }[dialect]
    _lints_or_is_refused(dialect, _as_yaml(whole).encode(errors="surrogatepass"))


@given(st.sampled_from(DIALECTS), st.binary(max_size=300))
@settings(deadline=None, max_examples=100)
def test_garbage_is_refused(dialect: Dialect, data: bytes) -> None:
    _lints_or_is_refused(dialect, data)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "[]",
        "a",
        "a: b",
        "jobs: {}",
        "steps: []",
        "kind: pipeline",
        "- - -",
        "jobs: {a: 1}",
        "\t",
        "a: &a [*a]",
    ],
)
def test_what_is_no_file_of_theirs_is_refused(dialect: Dialect, text: str) -> None:
    with pytest.raises(PipelineFileError, match=r"theirs\.yml"):
        made(dialect, text)


def test_aliases_that_multiply_a_text_are_refused() -> None:
    lines = "".join(f"  j{number}: {{runs-on: ubuntu-latest, steps: [{{run: *long}}]}}\n" for number in range(60))
    text = f"on: push\nenv: {{A: &long '{'x' * 100_000}'}}\njobs:\n{lines}"
    with pytest.raises(PipelineFileError, match=f"more than {MAX_TEXT} characters|more than {MAX_BYTES} bytes"):
        made("github", text)


def test_what_is_too_large_too_deep_or_in_a_circle_is_refused() -> None:
    with pytest.raises(PipelineFileError, match=f"{MAX_BYTES} bytes"):
        made("gitlab", b"a: " + b"x" * MAX_BYTES)
    with pytest.raises(PipelineFileError, match=f"{MAX_DEPTH} deep"):
        made("drone", "[" * 60_000)
    with pytest.raises(PipelineFileError, match="extends"):
        made("gitlab", "a: {extends: b, script: x}\nb: {extends: a}\n")
    with pytest.raises(PipelineFileError, match="!reference"):
        made("gitlab", ".a: {s: [!reference [.a, s]]}\nb: {image: x, script: [!reference [.a, s]]}\n")
    chain = "".join(
        f".t{number}: {{extends: [.t{number + 1}, .t{number + 1}], k{number}: 1}}\n" for number in range(10)
    )
    many = "".join(f"    k{number}: v\n" for number in range(2000))
    with pytest.raises(PipelineFileError, match="makes too much"):
        made("gitlab", f"{chain}.t10:\n  variables:\n{many}a: {{extends: .t0, image: b, script: x}}\n")


def test_more_jobs_than_a_run_has_are_refused() -> None:
    jobs = "".join(f"j{number}: {{image: b:1, script: x}}\n" for number in range(300))
    with pytest.raises(PipelineFileError, match="256"):
        made("gitlab", jobs)


def test_nothing_runs_for_lack_of_a_condition() -> None:
    found = made(
        "github",
        """
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    if: contains(github.event.head_commit.message, 'ship it')
    steps: [{run: ./ship.sh}]
  b:
    needs: a
    runs-on: ubuntu-latest
    steps: [{run: ./tell.sh}]
""",
    )
    jobs = lints(found.text).pipeline.jobs
    assert [list(fits.event or ()) for fits in jobs["a"].when] == [["manual"]]
    assert [need.job for need in jobs["b"].needs] == ["a"], "without it, b is left out, too"
    assert "theirs.yml:4:3: when a is to run is not converted" in told(found)


def test_what_comes_after_something_that_is_not_converted_does_not_run_either() -> None:
    found = made(
        "github",
        """
on: push
jobs:
  check: {runs-on: windows-latest, steps: [{run: check}]}
  deploy: {needs: [check], runs-on: ubuntu-latest, steps: [{run: ./deploy.sh}]}
  other: {uses: org/repo/.github/workflows/x.yml@main, needs: deploy}
""",
    )
    jobs = lints(found.text).pipeline.jobs
    assert jobs["check"].run is not None
    assert jobs["check"].run[0].endswith("exit 1")
    assert [need.job for need in jobs["deploy"].needs] == ["check"]
    assert jobs["other"].run is not None
    assert jobs["other"].run[0].endswith("exit 1")


def test_steps_that_are_not_converted_fail_where_they_stood() -> None:
    found = made(
        "github",
        """
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: one
      - uses: somebody/deploys@v1
      - run: three
""",
    )
    run = lints(found.text).pipeline.jobs["a"].run
    assert run is not None
    assert (run[0], run[2]) == ("one", "three")
    assert run[1] == "echo 'not converted: somebody/deploys@v1 (line 8); write what it does as a command' >&2; exit 1"


def test_secrets_are_named_and_never_text() -> None:
    found = made(
        "github",
        """
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    env: {TOKEN: "${{ secrets.DEPLOY }}"}
    steps: [{run: "curl -H ${{ secrets.api_key }} x"}]
""",
    )
    job = lints(found.text).pipeline.jobs["a"]
    assert {(secret.name, secret.variable) for secret in job.secrets} == {("DEPLOY", "TOKEN"), ("api_key", "API_KEY")}
    assert job.run == ('curl -H "${API_KEY}" x',)
    assert "TOKEN" not in job.env


def test_docker_in_docker_becomes_an_engine_of_the_jobs_own() -> None:
    found = made(
        "gitlab",
        """
variables: {DOCKER_TLS_VERIFY: "1"}
test:
  image: docker:28-cli
  services: ["docker:28-dind", "postgres:17"]
  variables: {DOCKER_HOST: "tcp://docker:2376", DOCKER_TLS_CERTDIR: /certs, MINE: kept}
  script: docker compose up --exit-code-from tests
""",
    )
    job = lints(found.text).pipeline.jobs["test"]
    assert job.engine
    assert [str(service.name) for service in job.services] == ["postgres"]
    assert dict(job.env) == {"MINE": "kept", "DOCKER_TLS_VERIFY": ""}
    assert "docker in docker becomes `engine: true` of test" in told(found)


def test_values_stay_values() -> None:
    """What looks like one of our own references is text, and no key comes out of a value."""
    found = made(
        "github",
        """
on: push
env: {A: "${SHIPLAP_BRANCH} ${{ github.sha }}", B: "x\\n  image: evil\\n"}
jobs:
  a: {runs-on: ubuntu-latest, steps: [{run: "true"}]}
""",
    )
    job = lints(found.text).pipeline.jobs["a"]
    assert dict(job.env) == {"A": "$${SHIPLAP_BRANCH} ${SHIPLAP_COMMIT}", "B": "x\n  image: evil\n"}


def test_the_order_of_steps_and_stages_is_kept() -> None:
    found = made(
        "woodpecker",
        """
steps:
  - {name: one, image: "a:1", commands: [x]}
  - {name: two, image: "a:1", commands: [x], when: {event: tag}}
  - {name: bad, image: "a:1", commands: [x], when: {status: failure}}
  - {name: three, image: "a:1", commands: [x]}
""",
    )
    jobs = lints(found.text).pipeline.jobs
    assert [str(need.text) for need in jobs["three"].needs] == ["two?", "one"]
    assert jobs["bad"].after == "failure"
    assert [output.path for output in jobs["one"].outputs] == ["**"], "steps shared their directory"
    staged = lints(made("gitlab", """
stages: [x, y, z]
image: a:1
one: {stage: x, script: s}
two: {stage: y, script: s, only: [tags]}
three: {stage: z, script: s}
four: {stage: z, script: s, needs: []}
""").text).pipeline.jobs  # fmt: skip
    assert [str(need.text) for need in staged["three"].needs] == ["two?", "one"]
    assert staged["four"].needs == ()


def test_one_key_of_except_is_enough_to_leave_a_job_out() -> None:
    found = made(
        "gitlab",
        """
image: a:1
a: {script: s, except: {refs: [triggers], variables: [$HOLD]}}
b: {script: s, except: {refs: [main]}}
c: {script: s, only: {refs: [triggers], variables: [$GO]}}
""",
    )
    jobs = lints(found.text).pipeline.jobs
    assert [list(fits.event or ()) for fits in jobs["a"].when] == [["manual"]], "what HOLD held back is not known"
    assert [list(fits.event or ()) for fits in jobs["b"].when] != [["manual"]]
    assert [list(fits.event or ()) for fits in jobs["c"].when] == [["manual"]], "there are no triggers here"


def test_every_key_that_is_not_converted_is_listed() -> None:
    found = made("gitlab", "a: {image: b:1, script: x, novelty: 1, artifacts: {paths: [x], surprise: 2}}\n")
    assert "theirs.yml:1:28: `novelty` of the job a is not converted" in told(found)
    assert "`surprise` of `artifacts` of a is not converted" in told(found)


def test_many_remarks_are_counted() -> None:
    keys = "".join(f"    odd{number}: 1\n" for number in range(700))
    found = made("woodpecker", f"steps:\n  a:\n    image: b:1\n    commands: [x]\n{keys}")
    assert len(found.remarks) == 700
    assert told(found).endswith("theirs.yml: 200 more are not shown")
    assert re.search(r"^# - and \d+ more$", found.text, re.MULTILINE)
