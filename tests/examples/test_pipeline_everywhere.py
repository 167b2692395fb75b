"""The design's first pipeline by ``git push`` to a service and by ``shiplap ci run``: everywhere the same results.

Each way is gone twice, on stores that have nothing in common but the images that the jobs begin with.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.git import git
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap, start_service

SECRET = "s3cr3t-of-deploy"
PIPELINE = """
jobs:
  lint:
    image: {build: ci}                       # the environment is a Dockerfile of the repository
    inputs: ["src/**", ruff.toml]            # sees these files and nothing else
    run: ruff check src
    outputs: lint.txt

  test:
    image: "python:${PYTHON}-slim"
    matrix: {PYTHON: [3.11, 3.13]}
    outputs: [{path: "reports/*.xml", into: "reports/${PYTHON}"}, src]
    run:
      - pip install -e .
      - pytest --junitxml=reports/junit.xml
      - rm -r src/notes && chmod 750 src/app.py && ln -s app.py src/link

  app:
    needs: [lint, test]
    build: {context: ., tags: ["app:${SHIPLAP_SHORT_COMMIT}"], args: {SOURCE_DATE_EPOCH: "${SHIPLAP_COMMITTED_AT}"}}

  deploy:
    needs: app
    when: {branch: main, event: push}
    image: {job: app}
    env: {IMAGE: "${app.IMAGE}"}
    secrets: [DEPLOY_KEY]
    run: ./deploy.sh
    outputs: deployed
"""
FILES = {
    ".shiplap.yml": PIPELINE,
    ".gitignore": "*.pyc\n",
    "ci/Dockerfile": f"FROM {BUSYBOX_NAME}\nCOPY --chmod=755 ruff /bin/ruff\n",
    "ci/ruff": "#!/bin/sh\ntest ! -e deploy.sh && find $2 -type f | sort | tee lint.txt\n",
    "ruff.toml": "line-length = 120\n",
    "src/app.py": "print('hello')\n",
    "src/notes/old": "to be removed\n",
    "Dockerfile": f"FROM {BUSYBOX_NAME}\nCOPY src /src\nCOPY reports /reports\nRUN cat /reports/*/junit.xml > /all\n",
    "deploy.sh": "#!/bin/sh\n"
    'test "$DEPLOY_KEY" = s3cr3t-of-deploy && ls -l /src/ src/ && echo image $IMAGE && sort /all > deployed\n',
}
PYTHON = f"""
FROM {BUSYBOX_NAME}
ARG VERSION
RUN printf '#!/bin/sh\\ntest "$*" = "install -e ."\\n' > /bin/pip \\
 && printf '#!/bin/sh\\nmkdir reports; echo passed with '$VERSION' >"${{1#*=}}"; cat src/*.py >>"${{1#*=}}"\\n' \\
    > /bin/pytest && chmod 755 /bin/pip /bin/pytest
"""


class Results(NamedTuple):
    """What came of the run. outputs, images: digests by job. deployed: what the last job printed."""

    states: dict[str, str]
    outputs: dict[str, str]
    images: dict[str, str]
    deployed: list[str]


@pytest.fixture(scope="module")
def images(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Path:
    """A tar of the images that the jobs begin with."""
    directory = tmp_path_factory.mktemp("images")
    shiplap = Shiplap(directory / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    (directory / "python").mkdir()
    (directory / "python" / "Dockerfile").write_text(PYTHON)
    names = [f"python:{version}-slim" for version in ("3.11", "3.13")]
    for name in names:
        version = name.removeprefix("python:").removesuffix("-slim")
        shiplap.build(directory / "python", "--build-arg", f"VERSION={version}", "-t", name)
    shiplap("image", "save", "-o", directory / "images.tar", BUSYBOX_NAME, *names)
    return directory / "images.tar"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("repository")
    git(top, "init", "--quiet", "--initial-branch=main")
    for name, text in FILES.items():
        (top / name).parent.mkdir(exist_ok=True, parents=True)
        (top / name).write_text(text)
    (top / "deploy.sh").chmod(0o755)
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "Begin")
    return top


def of_push(shiplap: Shiplap, repository: Path) -> Results:
    """A service of its own, a bare repository beside it, and ``git push``."""
    url, process = start_service(shiplap)
    try:
        shiplap("project", "add", "app", "--bare")
        shiplap("secret", "set", "--project", "app", "DEPLOY_KEY", stdin=SECRET)
        subprocess.run(
            ["git", "push", "-o", "follow", str(shiplap.root / "git" / "app.git"), "main"],
            cwd=repository, check=True, capture_output=True, timeout=stretched(240),
        )  # fmt: skip
        found = shiplap.json("runs", "jobs", "--json", "1")[1:]
        logs = shiplap("runs", "logs", "1", "deploy").stdout
        assert SECRET not in shiplap("runs", "logs", "1").stdout
    finally:
        process.terminate()
        assert process.wait(stretched(60)) == 0
    with_image = re.search(rf"image {re.escape(url.removeprefix('http://'))}/app:?\S*@sha256:[0-9a-f]{{64}}", logs)
    assert with_image, logs
    jobs = {job["name"]: job for job in found}
    return _results(jobs, logs)


def of_ci_run(shiplap: Shiplap, repository: Path) -> Results:
    """``shiplap ci run`` in a clone."""
    clone = shiplap.root.parent / "clone"
    git(clone.parent, "clone", "--quiet", str(repository), str(clone))
    (clone.parent / "key").write_text(SECRET)
    done = shiplap(
        "ci", "run", "--event", "push", "--branch", "main", "--secret", f"DEPLOY_KEY={clone.parent}/key",
        "--progress", "json", cwd=clone,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert SECRET not in done.stderr
    said = "".join(each["text"] for each in events if each["event"] == "output" and each["job"] == "deploy")
    return _results(events[-1]["jobs"], said)


def _results(jobs: dict[str, dict[str, str | None]], said: str) -> Results:
    """said: what the last job printed."""
    outputs = {name: found for name, job in jobs.items() if (found := job.get("outputs"))}
    images = {name: found for name, job in jobs.items() if (found := job.get("image"))}
    states = {name: str(job["state"]) for name, job in jobs.items()}
    return Results(states, outputs, images, [line for line in said.splitlines() if re.match("[-ld][-rwx]{9} ", line)])


def test_push_and_ci_run_make_the_same_outputs_on_any_root(images: Path, repository: Path, tmp_path: Path) -> None:
    found = []
    for number, way in enumerate((of_push, of_ci_run, of_push, of_ci_run)):
        shiplap = Shiplap(tmp_path / str(number) / "root")
        shiplap.root.parent.mkdir()
        shiplap("image", "load", "-i", images)
        found.append(way(shiplap, repository))
        shutil.rmtree(shiplap.root)  # nothing of it is there for the next one
    first, *others = found
    names = ["lint", "test (3.11)", "test (3.13)", "app", "deploy"]
    assert first.states == dict.fromkeys(names, "succeeded")
    assert sorted(first.outputs) == sorted(set(names) - {"app"})
    assert len(set(first.outputs.values())) == len(first.outputs)
    assert list(first.images) == ["app"]
    assert any(line.endswith(" link -> app.py") for line in first.deployed)
    assert others == [first] * 3
