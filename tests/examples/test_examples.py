"""``examples/``: Dockerfiles are built, run, built again, changed, and handed to other people's tools; jobs are run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.toolkit.consoles import examples
from tests.toolkit.foreign import Podman, run_tool
from tests.toolkit.git import git
from tests.toolkit.shiplap import BuildOutcome, Shiplap

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

_PAGE = _EXAMPLES.parent / "docs" / "pipelines.md"

_SERVE_NGINX = """
nginx
python3 - <<'END'
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/about", timeout=5).read().decode())
END
"""
_SERVE_FLASK = """
gunicorn --bind 127.0.0.1:8000 app:app &
for attempt in $(seq 100); do python3 healthcheck.py 2>/dev/null && exit 0; sleep 0.1; done
exit 1
"""


@dataclass(frozen=True, slots=True)
class Example:
    """commands: what to run in the image and what it must print.

    source: a file to change. change: what to replace in it, and by what. reruns: how many steps depend on that file.
    """

    name: str
    commands: tuple[tuple[tuple[str, ...], str], ...]
    source: str
    change: tuple[str, str]
    reruns: int

    @property
    def image(self) -> str:
        return f"example-{self.name}"


EXAMPLES = (
    Example(
        "nginx-python",
        (
            (("nginx", "-t"), "configuration file /etc/nginx/nginx.conf test is successful"),
            (("sh", "-c", _SERVE_NGINX), "<p>Python rendered this page while the image was built.</p>"),
        ),
        source="site/about.txt",
        change=("Python rendered", "Someone rendered"),
        reruns=2,
    ),
    Example(
        "flask",
        ((("sh", "-c", _SERVE_FLASK), "ok"),),
        source="app.py",
        change=('"world"', '"moon"'),
        reruns=1,
    ),
    Example(
        "c-static",
        (((), "hello, world (I am user 65534 and process 1)"), (("a", "b"), "hello, b (")),
        source="greet.c",
        change=("hello", "ahoy"),
        reruns=3,
    ),
    Example(
        "node",
        ((("node", "server.js", "--check"), '{"hello":"world"}'),),
        source="server.js",
        change=("'world'", "'moon'"),
        reruns=1,
    ),
)
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)

Build = Callable[[Example], BuildOutcome]


@pytest.fixture(scope="module")
def built(base_store: Shiplap) -> Build:
    """Builds an example when it is first asked for, and remembers how that went."""
    outcomes: dict[str, BuildOutcome] = {}

    def build(example: Example) -> BuildOutcome:
        if example.name not in outcomes:
            outcomes[example.name] = base_store.build(_EXAMPLES / example.name, "-t", example.image)
        return outcomes[example.name]

    return build


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    tool = Podman(tmp_path_factory.mktemp("podman"))
    yield tool
    tool.close()


@each_example
def test_example_builds_and_does_its_work(built: Build, base_store: Shiplap, example: Example) -> None:
    assert built(example).executed > 0
    for command, expected in example.commands:
        result = base_store("run", "--rm", example.image, *command)
        assert expected in result.stdout + result.stderr


@each_example
def test_second_build_runs_no_step_and_gives_the_same_image(
    built: Build, base_store: Shiplap, example: Example
) -> None:
    first = built(example)
    second = base_store.build(_EXAMPLES / example.name, "-t", example.image)
    assert second.executed == 0
    assert second.cached > 0
    assert second.image_id == first.image_id


@each_example
def test_changed_source_reruns_just_the_steps_after_its_copy(
    built: Build, base_store: Shiplap, example: Example, tmp_path: Path
) -> None:
    first = built(example)
    context = shutil.copytree(_EXAMPLES / example.name, tmp_path / "context")
    source = context / example.source
    source.write_text(source.read_text().replace(*example.change))
    changed = base_store.build(context, "-t", f"{example.image}-changed")
    assert changed.executed == example.reruns
    assert changed.executed + changed.cached == first.executed + first.cached
    assert changed.image_id != first.image_id


def test_change_that_makes_no_difference_to_a_step_ends_there(
    built: Build, base_store: Shiplap, tmp_path: Path
) -> None:
    example = next(example for example in EXAMPLES if example.name == "c-static")
    first = built(example)
    context = shutil.copytree(_EXAMPLES / example.name, tmp_path / "context")
    with open(context / example.source, "a") as source:
        source.write("/* The compiler does not see this. */\n")
    changed = base_store.build(context, "-t", f"{example.image}-commented")
    assert changed.executed == 2  # COPY and RUN make, and not the COPY of the same program into the last stage
    assert changed.image_id == first.image_id


@each_example
def test_saved_example_is_accepted_by_skopeo_umoci_and_podman(
    built: Build, base_store: Shiplap, podman: Podman, example: Example, tmp_path: Path
) -> None:
    built(example)
    archive, layout = tmp_path / "image.tar", tmp_path / "layout"
    base_store("image", "save", "-o", archive, example.image)

    inspected = json.loads(run_tool("skopeo", "inspect", f"oci-archive:{archive}"))
    (ours,) = base_store.json("image", "inspect", example.image)
    assert len(inspected["Layers"]) == len(ours["RootFS"]["Layers"])

    run_tool("skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"oci:{layout}:latest")
    run_tool("umoci", "unpack", "--image", f"{layout}:latest", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs").is_dir()

    podman("load", "--quiet", "--input", archive)
    command, expected = next((c, e) for c, e in example.commands if not (c and c[0] == "nginx"))
    assert expected in podman.run(f"docker.io/library/{example.image}:latest", command)


def test_page_of_pipelines_shows_the_example() -> None:
    (shown,) = (example for example in examples(_PAGE.read_text()) if example.heading == "A larger file")
    file = (_EXAMPLES / "pipeline" / ".shiplap.yml").read_text()
    assert shown.file == "".join(line for line in file.splitlines(keepends=True) if not line.startswith("#"))


def test_pipeline_runs_what_a_change_concerns(base_store: Shiplap, tmp_path: Path) -> None:
    """Here and for a push alike: what the one has done the other does not do again."""
    place = shutil.copytree(_EXAMPLES / "pipeline", tmp_path / "tally")
    git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "tally")

    def states(*words: str) -> dict[str, str]:
        said = base_store("ci", "run", "--progress", "json", *words, cwd=place).stderr.splitlines()
        (end,) = (found for line in said if line.startswith("{") and "jobs" in (found := json.loads(line)))
        return {name: job["state"] for name, job in end["jobs"].items()}

    tests = [f"test ({standard}, {optimise})" for standard in ("c99", "c17") for optimise in ("-O0", "-O2")]
    always = {"app": "succeeded", "smoke": "succeeded"}
    first = states("--outputs", str(tmp_path / "outputs"))
    assert first == dict.fromkeys(("check", *tests, "program", "page/write", "keep", "app", "smoke"), "succeeded")
    title = "<h1>tally, built with -O2</h1>"
    assert title in (tmp_path / "outputs" / "page" / "write" / "page" / "page" / "index.html").read_text()
    reused = dict.fromkeys(first, "reused") | always
    assert states() == reused
    (tmp_path / "token").write_text("of-the-chat")
    pushed = base_store(
        "ci", "run", "--event", "push", "--yes", "--secret", f"CHAT_TOKEN={tmp_path}/token", cwd=place
    ).stderr
    assert re.search(r"announce \| .*; the chat is told$", pushed, re.MULTILINE)
    smaller = dict.fromkeys(("program", "page/write", "keep"), "succeeded")
    assert states("--param", "LEVEL=-Os") == reused | smaller
    with open(place / "tests" / "words.txt", "a") as words:
        words.write("more\n")
    assert states() == reused | dict.fromkeys((*tests, "page/write", "keep"), "succeeded")
    source = place / "src" / "tally.c"
    source.write_text(source.read_text().replace("words, %ld", "word, %ld"))
    failed = base_store("ci", "run", cwd=place, check=False)
    assert failed.returncode == 1
    assert re.search(r"^check +succeeded .* src/tally.c changed$", failed.stderr, re.MULTILINE)
    assert re.search(r"^program +skipped ", failed.stderr, re.MULTILINE)
