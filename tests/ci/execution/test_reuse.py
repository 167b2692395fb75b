"""Jobs that are answered by what an earlier one of the same key left, through the one door of execution."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import pytest

from ci.outcome import LOOKING
from core.digests import DiffID
from core.events import StepFinished
from core.trust import Domain, of_branch, of_fork, protected
from tests.ci.execution.jobshop import JobShop

PIPELINE = """
jobs:
  make:
    image: base:1
    inputs: [src, "*.txt"]
    run: cat src/* > made; echo "V=$(wc -c < made)" > $SHIPLAP_EXPORTS
    outputs: made
    exports: V
"""
FILES = {"src/a": "a", "src/b": "b", "x.txt": "x", "docs/y": "y"}


def fingerprint(value: bytes) -> str:
    return hmac.digest(b"key", value, "sha256").hex()


def run(
    shop: JobShop, text: str = PIPELINE, files: Mapping[str, str] = FILES, number: str = "7", **options: Any
) -> tuple[str, str]:
    """The state of the last job, and what was said of earlier results."""
    given = {"run": number, **options.pop("given", {})}
    outcome = shop.run(text, files=files, given=given, **options)
    said = [
        event.reason or ""
        for event in shop.last.events
        if isinstance(event, StepFinished) and shop.last.names[event.id] == LOOKING
    ]
    return outcome.state, "".join(said)


def test_a_job_whose_inputs_stayed_as_they_were_is_answered_with_all_that_it_left(shop: JobShop) -> None:
    assert run(shop, number="41") == ("succeeded", "it has not succeeded before")
    first = shop.outcomes["make"]
    assert run(shop, number="42") == ("reused", "the result of run 41")
    found = shop.outcomes["make"]
    assert (found.outputs, found.exports, found.reused_from) == (first.outputs, {"V": "2"}, "41")
    assert isinstance(found.outputs, DiffID)
    assert run(shop, files={**FILES, "docs/y": "new", "docs/z": "z"}) == ("reused", "the result of run 41")
    assert shop.left() == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"src/a": "A"}, "src/a changed"),
        ({"src/c": "c"}, "src/c added"),
        ({"new.txt": "", "x.txt": "X"}, "new.txt added, x.txt changed"),
    ],
)
def test_a_job_that_runs_again_says_which_input_changed(shop: JobShop, files: dict[str, str], said: str) -> None:
    run(shop)
    assert run(shop, files={**FILES, **files}) == ("succeeded", said)


def test_a_changed_command_variable_or_image_is_said(shop: JobShop) -> None:
    run(shop)
    state, said = run(shop, PIPELINE.replace("cat src/*", "cat src/a"))
    assert (state, said.startswith("the commands changed: ")) == ("succeeded", True)
    state, said = run(shop, PIPELINE.replace("    outputs", "    env: {LEVEL: 3}\n    outputs"))
    assert 'ENV LEVEL changed: not set → "3"' in said


def test_times_limits_and_labels_change_nothing(shop: JobShop) -> None:
    run(shop)
    more = "    timeout: 5m\n    grace: 1s\n    limits: {memory: 1g}\n    retry: 2\n    may_fail: true\n    outputs"
    assert run(shop, PIPELINE.replace("    outputs", more))[0] == "reused"


def test_who_wants_it_runs_anyway_and_its_result_answers_later(shop: JobShop) -> None:
    run(shop, number="1")
    assert run(shop, number="2", given={"reuse": False}) == ("succeeded", "the cache was not asked")
    assert run(shop, number="3") == ("reused", "the result of run 2")
    assert run(shop, PIPELINE.replace("    outputs", "    reuse: false\n    outputs")) == ("succeeded", "")
    assert run(shop, PIPELINE.replace('    inputs: [src, "*.txt"]\n', "")) == ("succeeded", "")


def test_what_failed_is_not_kept(shop: JobShop) -> None:
    failing = PIPELINE.replace("    outputs", "    shell: sh\n    outputs").replace("run: cat", "run: exit 1; cat")
    assert run(shop, failing)[0] == "failed"
    assert run(shop, failing) == ("failed", "it has not succeeded before")


def test_a_result_whose_layer_is_gone_is_made_again(shop: JobShop) -> None:
    run(shop)
    layer = shop.outcomes["make"].outputs
    with shop.store.database.transaction() as connection:
        connection.execute("DELETE FROM layers WHERE diff_id = ?", (layer,))
    assert run(shop) == ("succeeded", "its result is no longer in the cache")
    assert run(shop)[0] == "reused"


def test_outputs_of_jobs_before_count_by_their_content(shop: JobShop) -> None:
    chain = """
jobs:
  first:
    image: base:1
    run: mkdir out; cat src/a > out/f; date +%N > out/noise; rm out/noise; echo x > other
    outputs: [out, other]
  second:
    needs: first
    image: base:1
    inputs: [out]
    run: cat out/f
"""
    assert run(shop, chain)[0] == "succeeded"
    assert run(shop, chain.replace("echo x", "echo y"))[0] == "reused"
    assert run(shop, chain, {**FILES, "src/a": "new"}) == ("succeeded", "out/f changed")


SECRET = PIPELINE.replace("    outputs", "    secrets: [TOKEN]\n    outputs")


def test_a_secret_counts_by_its_value_and_only_if_something_stands_for_it(shop: JobShop) -> None:
    def with_secret(value: bytes, **options: Any) -> tuple[str, str]:
        return run(shop, SECRET, given={"secrets": {"TOKEN": value}}, **options)

    assert with_secret(b"hunter2", fingerprint=fingerprint)[0] == "succeeded"
    assert with_secret(b"hunter2", fingerprint=fingerprint)[0] == "reused"
    state, said = with_secret(b"hunter3", fingerprint=fingerprint)
    assert (state, said.startswith("secret TOKEN changed")) == ("succeeded", True)
    assert with_secret(b"hunter2") == ("succeeded", "")


def test_a_fork_is_answered_by_nothing_that_saw_a_secret_and_leaves_nothing(shop: JobShop) -> None:
    def by(domain: Domain, text: str, secrets: Mapping[str, bytes]) -> str:
        for layer in shop.source(FILES):  # as the source's own layers are there for the run
            with shop.store.database.transaction() as connection:
                connection.execute("INSERT OR IGNORE INTO holdings VALUES (?, ?)", (domain.project_scope, layer))
        return run(shop, text, given={"secrets": secrets}, fingerprint=fingerprint, domain=domain)[0]

    optional = SECRET.replace("[TOKEN]", "[{name: TOKEN, optional: true}]")
    fork, main = of_fork("p", 3), protected("p")
    assert by(fork, PIPELINE, {}) == "succeeded"
    assert by(fork, PIPELINE, {}) == "succeeded"
    assert by(main, PIPELINE, {}) == "succeeded"
    assert by(fork, PIPELINE, {}) == "reused"
    assert by(of_branch("p", "b"), PIPELINE, {}) == "reused"
    assert by(protected("q"), PIPELINE, {}) == "succeeded"
    assert by(main, optional, {"TOKEN": b"hunter2"}) == "succeeded"
    assert by(fork, optional, {}) == "succeeded"


def test_in_a_monorepo_of_twelve_services_a_change_in_one_runs_one_job_of_twelve(shop: JobShop) -> None:
    names = [f"service-{number:02}" for number in range(12)]
    files = {f"services/{name}/pkg{n % 30}/f{n}.go": f"{name} {n}" for name in names for n in range(1666)}
    files |= {"go.mod": "m", "README.md": "r"}
    text = "jobs:\n" + "".join(
        f"  {name}:\n    image: base:1\n    inputs: ['services/{name}/**', go.mod]\n"
        f"    outputs: bin/{name}\n    run: mkdir bin; find services -type f | wc -l > bin/{name}\n"
        for name in names
    )

    def ran() -> list[str]:
        assert {outcome.state for outcome in shop.outcomes.values()} <= {"succeeded", "reused"}
        return [name for name, outcome in shop.outcomes.items() if outcome.state == "succeeded"]

    shop.run(text, files=files)
    assert ran() == names
    shop.run(text, files={**files, "README.md": "new", "services/service-07/pkg0/f0.go": "changed"})
    assert ran() == ["service-07"]
    shop.run(text, files={**files, "go.mod": "new"})
    assert ran() == names
