"""Caches of jobs through the one door of execution: lanes, time, secrets, results, and who spoils nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ci.execution.caches import KEEPING, OPENING
from core.trust import HOST, Domain, Privacy, of_branch, of_fork, protected
from images.erofs import ErofsError
from images.verify import verify
from tests.ci.execution.jobshop import JobShop

MAIN, TOPIC, FORK = protected("p"), of_branch("p", "topic"), of_fork("p", 3)


def job(run: str, more: str = "", caches: str = "[/var/kept]") -> str:
    return f"jobs: {{make: {{image: 'base:1', caches: {caches}, run: {json.dumps(run)}{more}}}}}"


ADD = job("ls /var/kept; touch /var/kept/$ADD", ", env: {ADD: '${SHIPLAP_TITLE}'}")


def said(shop: JobShop) -> str:
    """What the job's own commands printed."""
    return "".join(text for name, (_, text) in shop.last.steps.items() if not name.startswith("[internal]"))


def add(shop: JobShop, name: str, domain: Domain = MAIN, text: str = ADD, **options: Any) -> list[str]:
    """A job that adds a file; the files that were there before."""
    outcome = shop.run(text, facts={"SHIPLAP_TITLE": name}, domain=domain, **options)
    assert outcome.state == "succeeded", outcome
    return said(shop).split()


def test_what_a_job_leaves_is_there_for_the_next_and_the_log_tells_whose(shop: JobShop) -> None:
    assert add(shop, "a", given={"run": "41"}) == []
    assert shop.last.steps[OPENING] == ("done", "/var/kept: begins empty\n")
    assert shop.last.steps[KEEPING] == ("done", "/var/kept: kept\n")
    assert add(shop, "b") == ["a"]
    assert shop.last.steps[OPENING] == ("done", "/var/kept: as run 41 of protected left it\n")
    assert shop.left() == []
    assert verify(shop.store) == []


def test_poisoned_cache_of_a_branch_or_fork_is_never_seen_by_a_protected_run(shop: JobShop) -> None:
    add(shop, "poison", TOPIC)
    add(shop, "poison", FORK)
    assert add(shop, "a") == []
    assert add(shop, "poison", TOPIC) == ["poison"]
    assert add(shop, "b", FORK) == ["a"], "a fork sees the protected lane's"
    assert KEEPING not in shop.last.steps
    assert add(shop, "c", FORK) == ["a"], "and leaves nothing"
    assert add(shop, "b") == ["a"]


def test_log_tells_what_became_of_each(shop: JobShop) -> None:
    two = job("true; echo x > /var/kept/x", caches="[/var/kept, /var/other]")
    assert shop.run(two, domain=MAIN).state == "succeeded"
    assert shop.last.steps[KEEPING] == ("done", "/var/kept: kept\n/var/other: still empty: nothing was written to it\n")


def test_branch_begins_with_the_protected_lane_s(shop: JobShop) -> None:
    add(shop, "main")
    assert add(shop, "own", TOPIC) == ["main"]
    assert add(shop, "more", TOPIC) == ["main", "own"]


@pytest.mark.parametrize("how", ["secret", "outputs", "files"])
def test_cache_of_a_job_that_something_private_took_part_in_is_not_shown_to_forks(shop: JobShop, how: str) -> None:
    add(shop, "a")
    assert add(shop, "x", FORK) == ["a"]
    if how == "secret":
        add(shop, "b", text=ADD[:-2] + ", secrets: [TOKEN]}}", given={"secrets": {"TOKEN": b"hush-hush"}})
    elif how == "files":
        add(shop, "b", privacy=Privacy.PROJECT)
    else:
        first = "first: {image: 'base:1', secrets: [TOKEN], outputs: out, run: 'echo > out'}, make: {needs: first, "
        add(shop, "b", text=ADD.replace("make: {", first), given={"secrets": {"TOKEN": b"hush-hush"}})
    assert add(shop, "x", FORK) == []
    assert shop.last.steps[OPENING] == ("done", "/var/kept: begins empty: what is kept is not for forks\n")
    assert add(shop, "c") == ["a", "b"]


RESULT = job("cat /var/kept/x > out; date > /var/kept/x", ", inputs: ['*.txt'], outputs: out").replace(
    "cat /var/kept/x", "cp /var/kept/x out || echo clean"
)


def result(shop: JobShop, domain: Domain, **options: Any) -> str:
    outcome = shop.run(RESULT, files={"a.txt": "a"}, domain=domain, **options)
    return outcome.state


def test_result_of_a_job_that_saw_a_cache_counts_in_its_lane_alone(shop: JobShop) -> None:
    """A poisoned cache would else come back as a result."""
    assert result(shop, TOPIC) == "succeeded"
    assert result(shop, TOPIC) == "reused"
    assert result(shop, FORK) == "succeeded"
    assert result(shop, of_branch("p", "other")) == "succeeded"
    assert result(shop, MAIN) == "succeeded", "what a branch or fork made of its cache is nothing to it"
    assert result(shop, MAIN) == "reused"
    assert result(shop, of_branch("p", "third")) == "reused", "a run reads the protected lane"
    assert result(shop, protected("q")) == "succeeded"


def test_content_of_a_cache_is_in_no_key_and_its_name_and_place_are(shop: JobShop) -> None:
    def state(text: str) -> str:
        return shop.run(text, files={"a.txt": "a"}, domain=MAIN).state

    assert [state(RESULT), state(RESULT)] == ["succeeded", "reused"]
    add(shop, "another", text=ADD)
    assert state(RESULT) == "reused"
    assert state(RESULT.replace("[/var/kept]", "[{path: /var/kept, name: x}]")) == "succeeded"
    assert state(RESULT.replace("[/var/kept]", "[/var/kept, /var/more]")) == "succeeded"


def test_job_that_fails_is_cancelled_or_loses_its_outputs_spoils_nothing(shop: JobShop) -> None:
    add(shop, "a")
    spoil = "rm /var/kept/a; touch /var/kept/half"
    assert shop.run(job(f"{spoil}; exit 1"), domain=MAIN).state == "failed"
    assert shop.run(job(f"{spoil}; sleep 60", ", timeout: 1s, grace: 1s"), domain=MAIN).state == "failed"
    assert shop.run(job(spoil, ", outputs: [missing]"), domain=MAIN).state == "failed"
    assert add(shop, "b") == ["a"]
    assert shop.left() == []


def test_two_jobs_share_a_cache_by_name_and_a_matrix_has_one_for_each_value(shop: JobShop) -> None:
    named = ADD.replace("[/var/kept]", "{path: /var/kept, name: common}")
    add(shop, "a", text=named)
    assert add(shop, "b", text=named.replace("make:", "other:")) == ["a"]
    assert add(shop, "c", text=ADD) == []
    shop.run(ADD.replace("make: {", "make: {matrix: {V: [1, 2]}, "), facts={"SHIPLAP_TITLE": "x"}, domain=MAIN)
    names = {lane.name for lane in shop.store.generations.lanes()}
    assert names == {"common", ": make: /var/kept", ": make (1): /var/kept", ": make (2): /var/kept"}


def test_another_project_s_pipeline_s_or_repository_s_is_another(shop: JobShop) -> None:
    named = ADD.replace("[/var/kept]", "[{path: /var/kept, name: common}]")
    add(shop, "a", text=named)
    assert add(shop, "b", protected("q"), named) == []
    assert add(shop, "c", HOST, named, given={"home": "/home/ann/p"}) == []
    assert add(shop, "d", HOST, named, given={"home": "/home/ann/q"}) == []
    assert add(shop, "e", HOST, named, given={"home": "/home/ann/p"}) == ["c"]
    add(shop, "a", given={"pipeline": "main"})
    assert add(shop, "b", given={"pipeline": "nightly"}) == []


def test_it_is_the_job_s_user_s_and_root_s_on_the_disk(shop: JobShop) -> None:
    text = job("echo x > /var/kept/mine; stat -c %u:%g /var/kept /var/kept/*", ", user: '1234:99'")
    for _ in range(2):
        assert shop.run(text, domain=MAIN).state == "succeeded", shop.last.said
        assert "1234:99\n1234:99\n" in shop.last.said
    assert shop.run(job("stat -c %u /var/kept/mine"), domain=MAIN).state == "succeeded"
    assert "\n0\n" in f"\n{shop.last.said}"


def test_it_may_lie_in_the_workspace_and_is_no_output_then(shop: JobShop) -> None:
    text = job(
        "ls target/deep; mkdir -p target/deep; echo o > target/deep/o; echo made > made",
        ", outputs: ['**']",
        "[/work/target/deep, /work/obj]",
    )
    for _ in range(2):
        outcome = shop.run(text, files={"src/a": "a", "obj/in_commit": "x"}, domain=MAIN)
        assert outcome.state == "succeeded"
        assert outcome.outputs is not None
        told = subprocess.run(
            ["tar", "-tf", str(shop.store.layers.path(outcome.outputs))], capture_output=True, text=True, check=True
        )
        assert {name.strip("./") for name in told.stdout.split()} <= {"made", "target"}
    assert "o\n" in shop.last.said


# Time.

MAKE = job(
    r"""
    cd /work
    for source in src/*; do
        object=/var/kept/$(basename $source).o
        if [ ! -e $object ] || [ $source -nt $object ]; then cp $source $object; echo made $source; fi
    done
    cat /var/kept/*.o
    """
)


def built(shop: JobShop, files: Mapping[str, str], text: str = MAKE) -> str:
    assert shop.run(text, files={f"src/{name}": content for name, content in files.items()}, domain=MAIN).state == (
        "succeeded"
    )
    return said(shop)


def test_object_is_never_staler_than_its_source(shop: JobShop) -> None:
    """A commit that is older than the cache, a file that was reverted, a retry of an old commit: as make sees them."""
    assert built(shop, {"a": "one\n"}).endswith("one\n")
    assert built(shop, {"a": "two\n"}).endswith("two\n"), "all commits have one time, and the cache is younger"
    assert built(shop, {"a": "one\n"}).endswith("one\n"), "reverted"
    for text in ("two\n", "one\n", "two\n"):
        assert built(shop, {"a": text}).endswith(text)


def test_objects_of_an_attempt_are_younger_than_its_sources(shop: JobShop) -> None:
    twice = MAKE.replace(
        "cat /var", "for s in src/*; do [ $s -nt /var/kept/$(basename $s).o ] && echo STALE; done; cat /var"
    )
    for _ in range(3):
        assert "STALE" not in built(shop, {"a": "x\n", "b": "y\n"}, twice)


@pytest.mark.parametrize("erofs", [True, False])
def test_all_files_of_a_workspace_have_the_attempt_s_time(
    shop: JobShop, erofs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not erofs:

        def none(*_: object, **__: object) -> None:
            raise ErofsError("there is none", final=True)

        monkeypatch.setattr("images.snapshots.Indexer", none)
    text = (
        "jobs: {first: {image: 'base:1', run: 'mkdir -p d/e; echo x > d/e/f; ln -s f d/e/l; rm src/b',"
        " outputs: [d, src]}, make: {needs: first, image: 'base:1', caches: [/var/kept], inputs: INPUTS,"
        " run: 'find . | sort; find . -exec stat -c %Y {} + | sort | uniq -c; date +%s'}}"
    )
    files = {"src/a": "a", "src/b": "b", "x/y": "y"}
    for inputs in ("['**']", "[src, d]"):
        assert shop.run(text.replace("INPUTS", inputs), files=files, domain=MAIN).state == "succeeded"
        lines = said(shop).splitlines()
        found = [line for line in lines if line.startswith(".")]
        assert "./d/e/l" in found
        assert "./src/b" not in found
        assert ("./x/y" in found) == (inputs == "['**']")
        (times,), now = [line.split()[1:] for line in lines if line.startswith("  ")], int(lines[-1])
        assert now - 30 < int(times[0]) <= now, "one time, which is now"
    assert shop.left() == []


def test_launcher_lets_go_of_indexes_whose_files_are_gone(shop: JobShop) -> None:
    for name in "abcd":
        add(shop, name, files={"x": "x"})
    mounts = Path(f"/proc/{shop.launcher.pid}/mountinfo").read_text()
    assert mounts.count(" - erofs ") <= 5


# Faults.


def test_job_is_not_failed_by_its_cache(shop: JobShop, monkeypatch: pytest.MonkeyPatch) -> None:
    add(shop, "a")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("images.cachefiles.write_state", full)
        assert add(shop, "b") == ["a"]
        assert shop.last.steps[KEEPING][1].startswith("/var/kept: not kept: no space left on the disk")
    assert add(shop, "c") == ["a"]
    assert shop.left() == []


def test_above_its_limit_it_begins_empty(shop: JobShop) -> None:
    limited = ADD.replace("[/var/kept]", "[{path: /var/kept, limit: 100k}]")
    add(shop, "a", text=limited.replace("touch", "head -c 300000 /dev/urandom > /var/kept/big; touch", 1))
    assert add(shop, "b", text=limited) == []
    assert "its limit is 0.1024 MB" in shop.last.steps[OPENING][1]


def test_place_that_is_a_file_is_the_job_s_fault(shop: JobShop) -> None:
    outcome = shop.run(job("true", caches="[/bin/busybox]"), domain=MAIN)
    assert (outcome.state, "/bin/busybox" in outcome.message) == ("failed", True)
    assert shop.left() == []


def test_what_the_command_line_s_runs_keep_is_named_by_where_the_repository_is(shop: JobShop) -> None:
    add(shop, "a", HOST, given={"home": "/home/ann/p", "pipeline": "main"})
    (lane,) = shop.store.generations.lanes()
    assert (lane.owner, lane.lane, lane.name, lane.stays) == (
        "/home/ann/p", "this machine", "main: make: /var/kept", True
    )  # fmt: skip
