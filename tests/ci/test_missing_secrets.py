"""Secrets that jobs will not get are told when the run is planned: which, where, and what brings them."""

from __future__ import annotations

from ci.conditions import Event
from ci.missingsecrets import MOST, missing_secrets
from ci.parsing import parse_pipeline
from ci.planning import plan

TEXT = """
services: {db: {image: "d:1", secrets: [PASSWORD]}}
jobs:
  test: {image: "i:1", run: "true", services: [db], secrets: [{name: MAYBE, optional: true}, HAD]}
  ask: {approve: Ship it?}
  ship: {needs: ask, image: {build: {context: ., secrets: [NPM]}}, run: "true", secrets: [KEY, HAD]}
  again: {needs: ask, image: "i:1", run: "true", secrets: [KEY]}
  pull: {build: {context: ., secrets: [SPARED]}, when: {event: pull_request}}
"""


def test_each_is_told_once_with_its_place_and_what_brings_it() -> None:
    jobs = plan(parse_pipeline(TEXT.encode()), Event("push")).jobs
    why, changes = "it is for protected branches and tags", "its policy is changed by `shiplap secret policy`"
    refused = {"NPM": why}
    brings = "secret set --project app NAME FILE"
    assert missing_secrets(jobs, "f.yml", ["HAD"], refused, bring=brings, change="shiplap secret policy") == [
        f"f.yml:2:41: test needs the secret PASSWORD, which this run has not (`{brings}` brings it)".replace(
            "NAME", "PASSWORD"
        ),
        f"f.yml:6:91: ship and 1 more job need the secret KEY, which this run has not (`{brings}` brings it)".replace(
            "NAME", "KEY"
        ),
        f"f.yml:6:60: ship needs the secret NPM, which this run may not have: {why} ({changes})",
    ]


def test_a_fork_reads_the_same_of_every_secret_and_of_no_command_that_would_not_help() -> None:
    jobs = plan(parse_pipeline(TEXT.encode()), Event("push")).jobs
    names = {name for each in jobs for name in each.job.secret_names}
    told = missing_secrets(jobs, "f.yml", [], dict.fromkeys(names, "it is a fork"), bring="", change="")
    assert {line.partition(", which ")[2] for line in told} == {"this run may not have: it is a fork"}
    assert len(told) == len(names - {"MAYBE"})


def test_a_file_that_names_hundreds_is_answered_by_a_few_sentences() -> None:
    secrets = ", ".join(f"KEY_{number}" for number in range(45))
    text = f"""
jobs:
  test: {{image: "i:1", run: "true", matrix: {{A: [v0, v1, v2]}}, secrets: [{secrets}]}}
"""
    jobs = plan(parse_pipeline(text.encode()), Event("push")).jobs
    *told, last = missing_secrets(jobs, "f.yml", [], {}, bring="set NAME", change="")
    assert (len(told), last) == (MOST, f"jobs need {45 - MOST} more secrets, which this run does not get either")
    assert told[0].endswith(
        ": test (v0) and 2 more jobs need the secret KEY_0, which this run has not (`set KEY_0` brings it)"
    )
