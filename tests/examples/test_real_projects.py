"""The pipelines of real projects in tests/ci/pipelines, run: those whose tools Debian has, on small projects made here.

For each project one image, of the Debian base, stands for all those that its file names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pytest

from ci.parsing import parse_pipeline
from ci.planning import plan
from tests.ci.test_real_pipelines import event_of
from tests.toolkit.git import git
from tests.toolkit.shiplap import DEBIAN_NAME, Shiplap

_PIPELINES: Final = Path(__file__).resolve().parents[1] / "ci" / "pipelines"
_SERVICES: Final = [
    "auth", "billing", "cart", "geo", "invoices", "mail", "orders", "search", "stock", "tax", "users", "web",
]  # fmt: skip

_TOOLS: Final = f"""
FROM {DEBIAN_NAME}
ENV GOCACHE=/opt/go-cache GOTOOLCHAIN=local GOTELEMETRY=off
RUN apt-get update && apt-get install -y --no-install-recommends PACKAGES \\
 && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED
COPY warm /opt/warm
RUN cd /opt/warm && WARM
"""
_GO: Final = {
    "greet.go": 'package greet\n\nimport "fmt"\n\n'
    'func Greet(name string) string { return fmt.Sprint("hello, ", name) }\n',
    "greet_test.go": "package greet\n\nimport \"testing\"\n\nfunc TestGreet(t *testing.T) {\n"
    '\tif Greet("you") != "hello, you" {\n\t\tt.Fail()\n\t}\n}\n',
}  # fmt: skip


class Project(NamedTuple):
    """A project, and how its pipeline is run.

    packages: of Debian, that its jobs need. warm: a command that prepares the image.
    images: names that the file has, all for the one image; also ``tools``, for Dockerfiles of the project.
    files: contents by path; what begins with #! is a program.
    words: of the command line. secrets: values by name.
    event: the column of the golden table that the words stand for.
    not_here: jobs that Debian's packages cannot do, each with the reason.
    """

    packages: str
    images: tuple[str, ...]
    files: Mapping[str, str]
    words: tuple[str, ...]
    event: str
    secrets: Mapping[str, str] = {}
    not_here: Mapping[str, str] = {}
    warm: str = "true"


Tools: TypeAlias = Callable[[str], Shiplap]

_NOT_HERE: Final = {
    "django": "PostgreSQL as a service comes with the next issue; Playwright's image is not Debian's",
    "node-compose": "its end-to-end tests want images of the hub's; tests/ci/execution/test_engine.py runs compose",
    "terraform": "Terraform is not free software, and not in Debian",
}
"""Pipelines that are checked and planned only, each with the reason."""

_PROJECTS: Final = {
    "go-monorepo": Project(
        "golang-go",
        ("golang:1.24", "curlimages/curl:8.11.1"),
        {
            "go.mod": "module example.org/shop\n\ngo 1.24\n", "go.work": "go 1.24\n\nuse .\n", "go.sum": "",
            "libs/greet/greet.go": _GO["greet.go"],
            **{f"services/{name}/{file}": text for name in _SERVICES for file, text in _GO.items()},
            "deploy/Dockerfile": "FROM scratch\nARG SERVICE\nCOPY services/${SERVICE} /src\n",
            "deploy/smoke.sh": "#!/bin/sh\necho no smoke\n",
        },
        ("--event", "push"), "push to main",
        warm="go test . && go vet .",  # compiles what a test needs of Go's library: no job has to do it again
    ),
    "rust": Project(
        "cargo",
        ("rust:1.84", "rustlang/rust:1.80-slim", "rustlang/rust:1.84-slim", "rustlang/rust:nightly-slim"),
        {
            "Cargo.toml": '[package]\nname = "tally"\nversion = "1.2.3"\nedition = "2021"\n\n[features]\nfull = []\n',
            "Cargo.lock": 'version = 3\n\n[[package]]\nname = "tally"\nversion = "1.2.3"\n', "rustfmt.toml": "",
            "src/lib.rs": "//! Adds.\n\n/// The sum.\npub fn add(a: u32, b: u32) -> u32 {\n    a + b\n}\n\n"
            "#[test]\nfn adds() {\n    assert_eq!(add(2, 2), 4);\n}\n",
        },
        ("--event", "tag", "--tag", "v1.2.3"), "tag v1.2.3",
        not_here={"format": "rustup fetches its component from elsewhere", "publish": "it publishes",
            "agree": "nobody is there to be asked",
        },
    ),
    "site": Project(
        "codespell mkdocs python3-pip",
        ("python:3.13-slim",),
        {
            "docs/index.md": "# Boards\n\nLaid with overlapping edges.\n", "requirements.txt": "mkdocs\n",
            "mkdocs.yml": "site_name: Boards\n",
        },
        ("--event", "push", "--branch", "feature/x"), "push to feature/x",
        not_here={"links": "lychee is not in Debian"},
    ),
    "ansible": Project(
        "ansible-core ansible-lint yamllint",
        (),
        {
            "ci/Dockerfile": "FROM tools:ansible\n", ".yamllint": "extends: relaxed\n",
            ".ansible-lint": "offline: true\nprofile: min\n",
            **{f"hosts/{stage}": "localhost ansible_connection=local\n" for stage in ("staging", "production")},
            "site.yml": "---\n- name: Every host\n  hosts: all\n  gather_facts: false\n  tasks:\n"
            "    - name: Greet who signs in\n      ansible.builtin.copy:\n        content: hello\n"
            "        dest: /etc/motd\n        mode: \"0644\"\n",
        },
        ("--event", "manual"), "by hand", {"VAULT_PASSWORD": "open-sesame", "SSH_KEY": "a-key-of-nobody"},
    ),
    "ml": Project(
        "python-is-python3 python3-pytest",
        ("python:3.12-slim",),
        {
            "data/points.csv": "1,2\n2,4\n3,6\n4,8\n",
            **{f"docker/{kind}/Dockerfile": "FROM tools:ml\n" for kind in ("cpu", "gpu")},
            "tools/check_data.py": "import pathlib, sys\nassert list(pathlib.Path(sys.argv[1]).glob('*.csv'))\n",
            "model/__init__.py": "", "tests/__init__.py": "",
            "tests/test_model.py": "import model\n\n\ndef test_model():\n    assert model\n",
            "model/train.py": "import os, pathlib, sys\npathlib.Path('out').mkdir()\npathlib.Path(sys.argv[2])"
            ".write_text('2.0')\nopen(os.environ['SHIPLAP_EXPORTS'], 'a').write('LOSS=0.1\\n')\n",
            "model/measure.py": "import pathlib, sys\nprint({'slope': float(pathlib.Path(sys.argv[1]).read_text())})\n",
            "docker/serve/Dockerfile": "FROM scratch\nCOPY out /out\n",
        },
        ("--event", "push"), "push to main",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tools(base_store: Shiplap, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Makes the image of a project when it is first asked for; the command on a root that has it."""
    made: set[str] = set()

    def make(name: str) -> Shiplap:
        if name not in made:
            project, context = _PROJECTS[name], tmp_path_factory.mktemp("tools")
            text = _TOOLS.replace("PACKAGES", project.packages).replace("WARM", project.warm)
            _write(context, {"Dockerfile": text, "warm/go.mod": "module example.org/warm\n\ngo 1.24\n"})
            _write(context, {f"warm/{file}": text for file, text in _GO.items()})
            base_store.build(context, "-t", f"tools:{name}", timeout_s=900)
            made.add(name)
        return base_store

    return make


def _write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)


class Checkout:
    """A project as a git repository, and its pipeline run there."""

    def __init__(self, shiplap: Shiplap, name: str, directory: Path) -> None:
        self._shiplap = shiplap
        self.path = directory / "project"
        self._project = _PROJECTS[name]
        file = (_PIPELINES / f"{name}.yml").read_text()
        _write(self.path, {**self._project.files, ".shiplap.yml": file})
        for image in self._project.images:
            shiplap("image", "tag", f"tools:{name}", image)
        git(self.path, "init", "-q", "-b", "main")
        git(self.path, "add", ".")
        git(self.path, "commit", "-q", "-m", "all of it")
        self._secrets: list[str] = []
        for secret, value in self._project.secrets.items():
            (directory / secret).write_text(value)
            self._secrets += ["--secret", f"{secret}={directory / secret}"]

    def states(self, *jobs: str) -> dict[str, str]:
        """The state of each job. A run that fails shows what its jobs printed."""
        printed = self._shiplap(
            "ci", "run", "--progress", "json", *self._project.words, *self._secrets, *jobs, cwd=self.path, timeout_s=600
        ).stderr
        return {name: job["state"] for name, job in json.loads(printed.splitlines()[-1])["jobs"].items()}


def test_each_of_the_eight_runs_or_has_a_reason_not_to() -> None:
    assert sorted([*_PROJECTS, *_NOT_HERE]) == sorted(path.stem for path in _PIPELINES.glob("*.yml"))


@pytest.mark.parametrize("name", _PROJECTS)
def test_pipeline_of_a_real_project_runs(tools: Tools, name: str, tmp_path: Path) -> None:
    checkout, project = Checkout(tools(name), name, tmp_path), _PROJECTS[name]
    planned = plan(parse_pipeline((checkout.path / ".shiplap.yml").read_bytes()), event_of(project.event)).jobs
    bases = list(dict.fromkeys(job.base for job in planned if job.base not in project.not_here))
    assert project.not_here.keys() <= {job.base for job in planned}
    expected = {job.name: "succeeded" for job in planned if job.base in bases}
    if "tell" in expected:
        expected["tell"] = "skipped"
    assert checkout.states(*(bases if project.not_here else ())) == expected


def test_change_in_one_service_tests_that_one(tools: Tools, tmp_path: Path) -> None:
    checkout = Checkout(tools("go-monorepo"), "go-monorepo", tmp_path)
    assert len(checkout.states("test")) == 12
    _write(checkout.path, {"services/cart/more.go": "package greet\n\nconst More = true\n"})
    states = checkout.states("test")
    assert [name for name, state in states.items() if state == "succeeded"] == ["test (cart)"]
    assert set(states.values()) == {"succeeded", "reused"}
