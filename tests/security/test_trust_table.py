"""What has happened to other services, tried here: a test for each row of docs/trust.md, in both directions.

What a stranger or a branch must not reach is tried, and so is what it may, else a border that refuses all would pass.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import pytest

from ci.errors import PipelineFileError
from ci.parsing import parse_pipeline
from core.trust import Domain, of_branch, of_fork, protected
from pipelines.model import GitSource, Trigger
from pipelines.owning.policies import Policy, RunAsks
from pipelines.runs.domains import told
from pipelines.sealing.vault import Held, Opened
from tests.ci.execution.conftest import shop as shop
from tests.ci.execution.jobshop import JobShop
from tests.project.test_trust_page import PAGE
from tests.toolkit.service import FOR_ALL

Kind: TypeAlias = Literal["push", "tag", "pull_request", "manual", "cron"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAIN, TOPIC, FORK = protected("app"), of_branch("app", "topic"), of_fork("app", 7)
EVIL = '"; touch /work/pwned; $(touch /work/pwned) `touch /work/pwned` ${{ github.token }}\n- touch /work/pwned #'


def said(shop: JobShop, job: str = "") -> str:
    """What the commands of a job printed, of the last one if none is named."""
    steps = (shop.seen[job] if job else shop.last).steps
    return "".join(text for name, (_, text) in steps.items() if not name.startswith("[internal]"))


def test_pull_request_target(shop: JobShop) -> None:
    """No event gives a fork's code a secret, whatever its file, the secret's policy or its trigger's names say."""
    held = Held({}, {"KEY": Opened(b"opensesame", (FOR_ALL,))})
    text = "jobs: {a: {image: 'base:1', secrets: [{name: KEY, optional: true}], run: 'echo key=${#KEY}'}}"
    for kind in KINDS:
        source = GitSource("https://git.example/fork", "0" * 40, branch="main", tag="v1")
        trigger = Trigger(kind, "admin", branch="main", tag="v1", pull_request=7, default_branch="main", fork=True)
        domain = told(source, "app", trigger)
        assert domain == FORK, kind
        sifted = held.sifted(RunAsks(domain, kind, "main"))
        assert shop.run(text, domain=domain, given={"secrets": sifted.values}).state == "succeeded"
        assert said(shop) == "key=0\n", kind
    own = held.sifted(RunAsks(TOPIC, "pull_request", "topic"))
    assert shop.run(text, domain=TOPIC, given={"secrets": own.values}).state == "succeeded"
    assert said(shop) == "key=10\n"


def test_names_of_branches_and_titles_in_scripts(shop: JobShop) -> None:
    """They reach a job as variables; `run` is never replaced in, and what is replaced elsewhere stays one value."""
    facts = {"SHIPLAP_BRANCH": EVIL, "SHIPLAP_TITLE": EVIL, "SHIPLAP_AUTHOR": EVIL}
    text = (
        "jobs: {a: {image: 'base:1', env: {COPY: '${SHIPLAP_BRANCH}'}, run: "
        """'printf %s "$SHIPLAP_TITLE|$COPY|${SHIPLAP_AUTHOR}"; test ! -e /work/pwned'}}"""
    )
    assert shop.run(text, facts=facts).state == "succeeded"
    assert said(shop).rstrip("\n") == f"{EVIL}|{EVIL}|{EVIL}"


def add(shop: JobShop, name: str, domain: Domain, files: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """A job that leaves ``name`` in its cache and in its output; its state, and what was in its cache before."""
    text = (
        "jobs: {a: {image: 'base:1', caches: [/kept], inputs: ['*.txt'], outputs: [out],"
        " env: {NAME: '${SHIPLAP_TITLE}'},"
        " run: 'ls /kept; touch \"/kept/$NAME\"; ls /kept > out'}}"
    )
    outcome = shop.run(text, domain=domain, facts={"SHIPLAP_TITLE": name}, files=files or {"a.txt": name})
    return outcome.state, said(shop).split()


def test_cache_that_a_pull_request_poisoned(shop: JobShop) -> None:
    assert add(shop, "poison", FORK) == ("succeeded", [])
    assert add(shop, "poison", TOPIC) == ("succeeded", [])
    assert add(shop, "poison", MAIN) == ("succeeded", []), "nor is what they made of it its result"
    assert add(shop, "more", TOPIC)[1] == ["poison"], "a branch has its own"
    assert add(shop, "other", of_branch("app", "other"))[1] == ["poison"], "and begins with the protected lane's"
    assert add(shop, "poison", MAIN) == ("reused", [])


def test_artifact_of_a_fork_in_a_release(shop: JobShop) -> None:
    """What a fork's run made is nobody's result, however alike the job is; nothing names another run's outputs."""
    text = "jobs: {a: {image: 'base:1', inputs: ['*.txt'], outputs: [out], run: 'cp a.txt out'}}"
    files = {"a.txt": "a"}
    assert shop.run(text, domain=FORK, files=files).state == "succeeded"
    assert shop.run(text, domain=FORK, files=files).state == "succeeded", "it leaves nothing, not even for itself"
    assert shop.run(text, domain=MAIN, files=files).state == "succeeded"
    assert shop.run(text, domain=TOPIC, files=files).state == "reused"
    assert shop.run(text, domain=protected("other"), files=files).state == "succeeded"
    for wanted in ("{run: 41, job: a}", "'41/a'", "'other:a'"):
        with pytest.raises(PipelineFileError):
            parse_pipeline(f"jobs: {{a: {{image: x, run: y}}, b: {{image: x, run: y, needs: [{wanted}]}}}}".encode())


def test_artifact_that_leads_out_of_the_workspace(shop: JobShop) -> None:
    """A link that a job outputs is a link within the container of the next one, and no way out of it."""
    text = """
jobs:
  a: {image: 'base:1', outputs: [out], run: ln -s /etc out}
  b: {image: 'base:1', needs: a, outputs: ['out/**'], run: echo evil > out/passwd}
  c: {image: 'base:1', needs: a, run: 'readlink out; grep -c root /etc/passwd'}
"""
    shop.run(text)
    assert shop.outcomes["a"].state == "succeeded"
    assert shop.outcomes["b"].state == "failed", "a pattern that leads through a link"
    assert said(shop, "c").split() == ["/etc", "1"], "and what it wrote went with its container"


def test_moved_tags(shop: JobShop, busybox_tar: Path) -> None:
    """Parts are named by full commit; an image is what it was when the run first asked."""
    for place in ("main", "v1", "a" * 39, "A" * 40):
        with pytest.raises(PipelineFileError, match="commit"):
            parse_pipeline(f"jobs: {{a: {{use: 'https://git.example/x.git#{place}:f.yml'}}}}".encode())
    text = "jobs: {a: {image: 'base:1', run: 'echo is ${MARK-old}'}}"
    assert shop.run(text).state == "succeeded"
    shop.bring(busybox_tar, "base:1", env=("PATH=/bin", "MARK=moved"))
    assert shop.run(text).state == "succeeded"
    assert said(shop) == "is old\n", "another job of the run"
    assert shop.run(text, pins=None).state == "succeeded"
    assert said(shop) == "is moved\n", "another run"


def test_set_env(shop: JobShop) -> None:
    """What a job exports is what its file names, and a variable of nobody who did not ask for it."""
    text = """
jobs:
  a:
    image: 'base:1'
    exports: [PATH, LD_PRELOAD]
    run: 'printf "PATH=/evil\\nLD_PRELOAD=/evil.so\\n" >"$SHIPLAP_EXPORTS"'
  b: {image: 'base:1', needs: a, env: {SEEN: '${a.PATH}'}, run: 'echo "$PATH ${LD_PRELOAD-none} $SEEN"'}
"""
    assert shop.run(text).state == "succeeded"
    assert said(shop) == "/bin:/usr/bin:/sbin none /evil\n"
    undeclared = "jobs: {a: {image: 'base:1', exports: [A], run: 'echo BASH_ENV=/evil >\"$SHIPLAP_EXPORTS\"'}}"
    outcome = shop.run(undeclared)
    assert (outcome.state, "BASH_ENV" in outcome.message) == ("failed", True)


def test_branch_of_a_member_that_prints_the_deploy_key(shop: JobShop) -> None:
    """The service says for which runs a secret is; what the file says of itself does not count."""
    held = Held({}, {"KEY": Opened(b"opensesame", (Policy(("main",), ("push", "tag"), ("deploy",)),))})
    text = "jobs: {a: {image: 'base:1', secrets: [KEY], run: 'echo key=${#KEY}'}}"

    def run(asks: RunAsks) -> tuple[str, str]:
        sifted = held.sifted(asks)
        given = {"secrets": sifted.values, "refused": sifted.refused}
        outcome = shop.run(text, domain=asks.domain, given=given)
        return outcome.state, outcome.message

    assert run(RunAsks(MAIN, "push", "main", pipeline="deploy")) == ("succeeded", "")
    for asks in (
        RunAsks(TOPIC, "push", "topic", pipeline="deploy"),
        RunAsks(MAIN, "push", "main", pipeline="test"),
        RunAsks(MAIN, "manual", "main", pipeline="deploy"),
    ):
        state, message = run(asks)
        assert state == "failed"
        assert "which this run may not have: it is for branches main; events push, tag; pipelines deploy" in message


def test_secret_that_a_later_job_prints(shop: JobShop) -> None:
    """Each output of a run is masked with the secrets of all its jobs, in the forms that tools make of them."""
    secret = b"open-sesame-1234"
    text = """
jobs:
  a: {image: 'base:1', secrets: [KEY], outputs: [out], run: 'echo "$KEY" >out; echo "$KEY" | base64 >>out'}
  b: {image: 'base:1', needs: a, run: 'cat out; wc -c <out'}
"""
    assert shop.run(text, given={"secrets": {"KEY": secret}}).state == "succeeded"
    printed = said(shop, "b")
    assert secret.decode() not in printed
    assert base64.b64encode(secret).decode()[:12] not in printed
    assert printed.split()[-1] == str(17 + len(base64.b64encode(secret + b"\n")) + 1), "the file itself is whole"


def test_socket_of_the_host_s_engine(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: 'base:1'
    run: |
      for path in /var/run/docker.sock /run/docker.sock /run/podman/podman.sock /run/containerd; do
        if [ -e "$path" ]; then echo "there is $path"; fi
      done
      env | grep -i -e docker_host -e container_host || echo none
      find / -xdev -type s | wc -l
      grep -c / /proc/net/unix || true
"""
    assert shop.run(text).state == "succeeded", shop.outcomes
    assert said(shop).split() == ["none", "0", "0"]


def test_each_of_these_is_a_row_of_the_page() -> None:
    _, _, part = PAGE.read_text().partition("## What happened elsewhere")
    ours = [name for name in globals() if name.startswith("test_")]
    assert [name for name in ours if f"[{name}]" not in part] == [ours[-1]]
