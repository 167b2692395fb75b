"""Which runs of a project a real worker gives a secret: by its policy, and never by what a commit's files say."""

from __future__ import annotations

import pytest

from core.settings import ServiceSettings
from core.trust import protected
from pipelines.model import BuildOptions, GitSource, Run, RunRequest, Trigger
from pipelines.owning.policies import Policy, RunAsks
from pipelines.runs.pipelines import PLANNING
from pipelines.sealing.vault import Held, Opened
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import FOR_ALL, Workforce, finished, upload
from tests.worker.test_worker_pipeline_events import Forge
from tests.worker.test_worker_pipelines import Repository, log, states
from worker.jobs import masked_of

ASKS = "jobs: {a: {image: base, secrets: [KEY], run: 'echo has ${#KEY}'}}\n"
MOUNTS = "FROM base\nRUN --mount=type=secret,id=KEY,required=true wc -c </run/secrets/KEY\n"


@pytest.fixture
def forge(service: Service, settings: ServiceSettings, workers: Workforce) -> Forge:
    service.secrets.put("KEY", b"opensesame", project="app")
    return Forge(service, Repository(service, settings.root / "git" / "app"), workers)


def output(forge: Forge, run: Run) -> list[str]:
    return [line for line in log(forge.service, run.number, "a") if line.startswith("has ")]


def test_branch_that_asks_for_the_deploy_key_is_refused_by_the_policy(forge: Forge) -> None:
    """A member's branch, whose file says that it is main's deployment, prints nothing."""
    deployed = forge.push({".shiplap.yml": ASKS})
    assert (deployed.state, output(forge, deployed)) == ("succeeded", ["has 10"])
    branch = forge.push({".shiplap.yml": ASKS, "README": "1"}, "topic")
    assert branch.state == "failed"
    assert "the job needs the secret KEY, which this run may not have: it is for protected branches and tags" in (
        branch.reason
    )
    assert "this run is of branch topic (event push), pipeline main" in branch.reason
    told = [line for line in log(forge.service, branch.number, PLANNING) if "warning" in line]
    assert len(told) == 1, "when it was planned"
    assert "warning: .shiplap.yml:1:35: a needs the secret KEY, which this run may not have: it is for prot" in told[0]
    forge.service.secrets.set_policy("KEY", Policy(("main", "topic"), ("push",)), project="app")
    again = finished(forge.service, forge.service.runs.retry(branch.number).number)
    assert (again.state, output(forge, again)) == ("succeeded", ["has 10"]), "the policy is asked anew"
    forge.service.secrets.set_policy("KEY", Policy(("topic",)), project="app")
    refused = finished(forge.service, forge.service.runs.retry(deployed.number).number)
    assert "it is for branches topic; this run is of branch main" in refused.reason


def test_secret_is_for_the_pipelines_that_its_policy_names(forge: Forge) -> None:
    forge.service.secrets.set_policy("KEY", Policy((), (), ("deploy",)), project="app")
    first = forge.push({".shiplap/deploy.yml": ASKS, ".shiplap/test.yml": ASKS})
    second = finished(forge.service, first.number + 1)
    assert (first.state, output(forge, first)) == ("succeeded", ["has 10"])
    assert second.state == "failed"
    assert "it is for protected branches and tags; pipelines deploy; this run is of branch main" in second.reason


def test_build_gets_the_secrets_of_its_branch_and_is_told_why_not(forge: Forge) -> None:
    """A Dockerfile asks for them by its mounts, and nobody else has to."""
    assert forge.push({"Dockerfile": MOUNTS}).state == "succeeded"
    branch = forge.push({"README": "1"}, "topic")
    assert branch.result is not None
    assert "secret 'KEY' is required, and is not for this build: it is for protected branches" in branch.result.error
    forge.push({"Dockerfile": MOUNTS.replace(",required=true", " true ||")}, "topic")
    told = log(forge.service, branch.number + 1, "build")
    assert any(line.startswith("the secret KEY is not for this run: it is for protected") for line in told)


def test_what_people_send_gets_what_it_asks_for_and_the_policy_allows(forge: Forge) -> None:
    service = forge.service

    def built(*asked: str) -> Run:
        source = upload(service.contexts, {"Dockerfile": MOUNTS})
        request = RunRequest(source, "app", BuildOptions(secrets=asked))
        return finished(service, service.runs.submit(request, Trigger(by="ann")).number)

    refused = built("KEY")
    assert refused.state == "failed"
    assert refused.reason.startswith("the secret KEY is not for this run: it is for protected branches and tags; this")
    assert "of what ann sent" in refused.reason
    service.secrets.set_policy("KEY", FOR_ALL, project="app")
    assert built("KEY").state == "succeeded"
    unasked = built()
    assert unasked.result is not None
    assert "'KEY' is required, and was not given" in unasked.result.error


def test_run_by_hand_is_known_by_what_the_server_says(forge: Forge) -> None:
    forge.push({".shiplap.yml": ASKS})
    evil = forge.commit({".shiplap.yml": ASKS, "README": "1"}, "topic")

    def by_hand(source: GitSource) -> Run:
        trigger = Trigger(by="ann")
        return finished(forge.service, forge.service.runs.submit(RunRequest(source, "app"), trigger).number)

    url = forge.repository.url
    git(forge.repository.path, "checkout", "--quiet", "main")
    assert output(forge, by_hand(GitSource(url, "refs/heads/main"))) == ["has 10"]
    for source in (GitSource(url, "topic"), GitSource(url, evil, branch="main"), GitSource(url, evil, tag="v1")):
        run = by_hand(source)
        assert states(forge.service, run.number)["a"] == "failed", source
        assert "which this run may not have: it is for protected branches and tags" in run.reason


def test_deploy_key_opens_the_project_s_own_repository_and_no_other(forge: Forge) -> None:
    source = GitSource("ssh://git@git.example/other.git", "main", ssh_key="KEY", known_hosts="x")
    run = finished(forge.service, forge.service.runs.submit(RunRequest(source, "app")).number)
    assert run.reason.startswith("the secret KEY does not open ssh://git@git.example/other.git: it is for protected")


def test_secret_that_the_run_does_not_get_any_more_is_masked_all_the_same() -> None:
    """A job's outputs that were taken over from an earlier run may have it; so they are not shown to forks, either."""
    held = Held(
        {"own": b"mine"}, {"KEY": Opened(b"opensesame", (Policy(("other",)),)), "idle": Opened(b"x" * 9, (Policy(),))}
    )
    assert not held.sifted(RunAsks(protected("app"), "push", "main")).values.keys() & {"KEY"}
    assert masked_of(held, ("KEY", "own")) == (b"opensesame", b"mine")
    assert masked_of(held, ()) == ()
    assert len(masked_of(held, None)) == 3
