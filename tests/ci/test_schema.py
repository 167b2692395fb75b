"""The JSON Schema accepts what lint accepts, and refuses what the types refuse."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
import yaml

from ci.schema import pipeline_schema

Lint = Callable[[str], str]

_JOB = "image: 'b:1', run: x"


def refused(text: str) -> list[str]:
    """What an editor would underline: YAML as most programs resolve it, against the schema."""
    document: Any = json.loads(json.dumps(yaml.safe_load(io.StringIO(text)), default=str))
    validator = jsonschema_rs.Draft202012Validator(pipeline_schema())
    return [error.message for error in validator.iter_errors(document)]


def test_schema_is_one() -> None:
    assert jsonschema_rs.meta.is_valid(pipeline_schema())


_GOOD = [
    f"jobs: {{a: {{{_JOB}}}}}",
    f"on: push\njobs: {{a: {{{_JOB}}}}}",
    f"'on': {{push: {{branches: main, paths: [src]}}, tag: }}\njobs: {{a: {{{_JOB}}}}}".replace("tag: ", "tag: {}"),
    f"x-anchors: [1]\nenv: {{A: 3.10, B: no, C: }}\njobs: {{a: {{{_JOB}, env: {{D: 1}}}}}}",
    "jobs: {a: {build: .}, b: {build: {context: x, tags: [a], push: false, args: {A: 1}}}}",
    f"jobs: {{a: {{{_JOB}, timeout: 1h30m, grace: 10s, retry: 2, limits: {{memory: 512m, cpus: 0.5}}}}}}",
    f"jobs: {{a: {{{_JOB}, retry: {{times: 1, on: [timeout, 137]}}, workers: [big], platform: linux/arm64}}}}",
    f"jobs: {{a: {{{_JOB}, matrix: {{P: [3.11, 3.13], D: {{directories: 's/*'}}, fail_fast: true}}}}}}",
    f"jobs: {{a: {{{_JOB}, matrix: {{T: [1h]}}, timeout: '${{T}}', may_fail: '${{T}}', after: '${{T}}'}}}}",
    f"jobs: {{a: {{{_JOB}, when: [{{branch: main}}, {{event: [push, tag]}}], needs: []}}}}",
    f"jobs: {{a: {{{_JOB}, secrets: [A, {{name: b, file: /x}}], outputs: [a, {{path: b, into: c}}], exports: X}}}}",
    "jobs: {a: {image: {build: {context: ci}}, args: [a, 1]}, b: {build: x}, c: {image: {job: b}, run: [x]}}",
    f"source: {{history: 10, lfs: true}}\nstatuses: jobs\ndefaults: {{shell: bash}}\njobs: {{a: {{{_JOB}}}}}",
]


@pytest.mark.parametrize("text", _GOOD)
def test_what_lint_accepts_is_accepted(lint: Lint, text: str) -> None:
    assert ": error: " not in lint(text)
    assert not refused(re.sub(r"\bon: ", "'on': ", text))  # YAML 1.1, which editors no longer read, takes it for true


_BAD = [
    "jobs: {}", "jobs: []", "x: {}", "on: push", f"jobs: {{A: {{{_JOB}}}}}", "jobs: {a: {run: x}}",
    "jobs: {a: {image: b}}", "jobs: {a: {build: ., image: b}}",
    *(f"jobs: {{a: {{{_JOB}, {key}}}}}" for key in (
        "build: .", "rumn: x", "timeout: 3 hours", "may_fail: perhaps", "after: never", "retry: 11", "services: {}",
        "env: {A-B: 1}", "env: [A]", "matrix: {p: [1]}", "secrets: [{as: X}]", "inputs: []", "limits: {cpu: 1}",
        "outputs: {into: x}", "network: host", "workers: [a, b, c, d, e, f]",
    )),
    f"'on': {{pusch: {{}}}}\njobs: {{a: {{{_JOB}}}}}", f"source: {{history: some}}\njobs: {{a: {{{_JOB}}}}}",
]  # fmt: skip


@pytest.mark.parametrize("text", _BAD)
def test_what_the_types_refuse_is_refused(lint: Lint, text: str) -> None:
    assert ": error: " in lint(text)
    assert refused(text)
