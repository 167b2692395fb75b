"""What jobs run in: images that are named, built for them, or made by a job before; and what ``build`` jobs make."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from ci.errors import JobCancelledError
from core.digests import Digest
from core.events import StepFinished
from core.platforms import Platform
from core.references import Reference
from core.trust import protected
from tests.ci.execution.jobshop import JobShop, Seen
from tests.toolkit.bounds import eventually


def test_image_that_is_not_there_fails_the_job(shop: JobShop) -> None:
    outcome = shop.run("jobs: {a: {image: 'bose:1', run: 'true'}}")
    assert (outcome.state, outcome.failure, outcome.exit_code) == ("failed", "", None)
    assert outcome.message.startswith("no such image: bose:1 (")
    assert shop.left() == []


def test_image_that_is_here_is_asked_for_nowhere(shop: JobShop) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("somebody asks a registry")

    assert shop.run("jobs: {a: {image: 'base:1', run: 'true'}}", connect=connect).state == "succeeded"


def test_image_without_a_shell_says_so_and_can_still_run_a_command(shop: JobShop, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/usr/bin/busybox", tree / "bin" / "echo"], check=True)
    tar = tmp_path / "bare.tar"
    subprocess.run(["tar", "--create", "--file", tar, "--directory", tree, "."], check=True)
    shop.bring(tar, "bare:1")
    outcome = shop.run("jobs: {a: {image: 'bare:1', run: [echo one, echo two]}}")
    assert (outcome.state, outcome.exit_code) == ("failed", 127)
    assert outcome.message == "bare:1 has no sh (take an image that has it, or `args`: a command without a shell)"
    assert [ended for ended, _ in shop.last.steps.values()] == ["failed", "cancelled"]
    assert shop.run("jobs: {a: {image: 'bare:1', args: [echo, it works]}}").state == "succeeded"
    assert shop.last.said == "it works\n"


def test_image_of_another_machine_says_so(shop: JobShop, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "sh").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(100))
    (tree / "bin" / "sh").chmod(0o755)
    tar = tmp_path / "foreign.tar"
    subprocess.run(["tar", "--create", "--file", tar, "--directory", tree, "."], check=True)
    shop.bring(tar, "foreign:1", platform="linux/riscv64")
    outcome = shop.run("jobs: {a: {image: 'foreign:1', run: 'true'}}")
    assert outcome.state == "failed"
    assert outcome.message.startswith("foreign:1 is for linux/riscv64, and this machine is ")
    outcome = shop.run("jobs: {a: {image: 'base:1', platform: linux/riscv64, run: 'true'}}")
    assert outcome.state == "failed"
    assert outcome.message == (
        f"base:1 is for {Platform.host()}, and the job's `platform` is linux/riscv64 (name an image for that platform)"
    )


def test_name_means_the_same_in_all_of_a_run(shop: JobShop, busybox_tar: Path, tmp_path: Path) -> None:
    """Whoever asks first decides, whatever the name means later."""
    text = "jobs: {a: {image: 'base:1', run: 'echo $OF_THE_IMAGE'}}"
    shop.run(text)
    shop.bring(busybox_tar, "base:1", env=("OF_THE_IMAGE=another",))
    shop.run(text)
    assert shop.last.said == "yes\n"
    shop.run(text, pins=None)
    assert shop.last.said == "another\n"


IMAGE = {
    "ci/Dockerfile": "FROM base:1\nARG WHO\nCOPY tool /bin/tool\nRUN echo $WHO >/who\nENV BUILT=yes\nUSER 1000\n",
    "ci/tool": "#!/bin/sh\necho tool\n",
    "Dockerfile": "FROM base:1\nCOPY . /all\n",
}


def test_image_is_built_from_the_commits_files_for_the_job(shop: JobShop) -> None:
    """Its steps are the job's first; the second time they come from the cache. Nobody gives it a name."""
    text = """
jobs:
  before: {image: "base:1", run: "mkdir ci; echo changed >ci/tool", outputs: ci}
  a:
    needs: before
    image: {build: {context: ci, args: {WHO: "${SHIPLAP_EVENT}"}}}
    run: ["cat /who; sh /bin/tool; id -u; echo $BUILT", "true"]
"""
    assert shop.run(text, files={name: file for name, file in IMAGE.items() if name != "ci"}).state == "succeeded"
    names = list(shop.last.names.values())
    assert names[-2:] == ["cat /who; sh /bin/tool; id -u; echo $BUILT", "true"]
    assert len(set(shop.last.names)) == len(names)
    assert shop.last.steps[names[-2]] == ("done", "push\ntool\n0\nyes\n")
    assert shop.run(text, files=IMAGE).state == "succeeded"
    ended = {name: outcome for name, (outcome, _) in shop.last.steps.items() if "RUN" in name or "COPY" in name}
    assert set(ended.values()) == {"cached"}
    assert len(shop.store.database.all("SELECT name FROM names")) == 1  # of base:1
    assert shop.left() == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("{build: nowhere}", "the build context nowhere is not among the files"),
        ("{build: f}", "the build context f is no directory"),
        ("{build: empty}", "there is no Dockerfile in the build context empty"),
        ("{build: {context: ., file: Dockerfil}}",
         "there is no Dockerfil in the build context . (did you mean Dockerfile?)"),
        ("{build: {context: ., secrets: [KEY]}}", "the build needs the secret KEY, which this run has not"),
        ("{build: bad}", "bad"),
    ],
)  # fmt: skip
def test_image_that_cannot_be_built_fails_the_job(shop: JobShop, image: str, message: str) -> None:
    files = {**IMAGE, "f": "", "empty/f": "", "bad/Dockerfile": "FROM base:1\nRUN exit 3\n"}
    outcome = shop.run(f"jobs: {{a: {{image: {image}, run: 'true'}}}}", files=files)
    assert outcome.state == "failed"
    if message == "bad":
        assert outcome.exit_code == 3
        assert outcome.message.startswith("Dockerfile:2:1: process '/bin/sh -c exit 3' did not complete successfully")
    else:
        assert message in outcome.message
    assert shop.left() == []


def test_cancelled_while_its_image_is_built(shop: JobShop) -> None:
    files = {"Dockerfile": "FROM base:1\nRUN echo begun; sleep 1000\n"}
    cancelled = threading.Event()

    def cancel() -> None:
        eventually(lambda: "begun" in shop.last.said)
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(JobCancelledError):
        shop.run("jobs: {a: {image: {build: .}, run: 'true'}}", files=files, cancelled=cancelled)
    thread.join()
    outcome = shop.run("jobs: {a: {image: {build: .}, run: 'true', timeout: 2s}}", files=files)
    assert (outcome.state, outcome.failure, outcome.exit_code) == ("failed", "timeout", None)


def test_image_that_several_jobs_want_is_built_once(shop: JobShop) -> None:
    """Of a matrix, all want the same at the same moment."""
    files = {"Dockerfile": "FROM base:1\nRUN sleep 1; echo built\n"}
    seen: list[Seen] = []

    def run() -> None:
        mine = Seen()
        seen.append(mine)
        shop.attempt("jobs: {a: {image: {build: .}, run: 'true'}}", mine, files=files)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [ended for one in seen for name, (ended, _) in one.steps.items() if "RUN" in name]
    assert sorted(outcomes) == ["cached", "cached", "cached", "done"]
    waits = [name for one in seen for name in one.steps if "wait for another job" in name]
    assert len(waits) == 3
    assert all(list(one.names) == list(range(len(one.names))) for one in seen)
    assert all(one.steps["true"][0] == "done" for one in seen)


BUILD = """
jobs:
  before: {image: "base:1", run: "mkdir out; echo made >out/file", outputs: out}
  app:
    needs: before
    build: {context: ., tags: ["app:${SHIPLAP_EVENT}", "other/app"], args: {A: "${before.X}"}}
  use:
    needs: app
    image: {job: app}
    env: {IMAGE: "${app.IMAGE}", DIGEST: "${app.DIGEST}"}
    run: "cat /all/out/file; echo $IMAGE $DIGEST"
""".replace(', args: {A: "${before.X}"}', "")


def test_build_is_of_the_workspace_and_its_image_is_for_later_jobs(shop: JobShop) -> None:
    assert shop.run(BUILD, files=IMAGE).state == "succeeded"
    app = shop.outcomes["app"]
    image = shop.store.images.get(Digest.parse(app.image))
    assert app.exports == {
        "IMAGE": f"app@{image.manifest_digest}", "DIGEST": str(image.manifest_digest),
    }  # fmt: skip
    assert shop.last.said == f"made\napp@{image.manifest_digest} {image.manifest_digest}\n"
    assert {name.familiar for name in image.names} == {"app:push", "other/app:latest"}
    steps = {name: ended for name, (ended, _) in shop.seen["app"].steps.items()}
    assert any("COPY . /all" in name for name in steps)
    again = shop.run(BUILD, files=IMAGE)
    assert again.state == "succeeded"
    assert shop.outcomes["app"].image == app.image


def test_build_counts_for_the_project_only_where_outputs_may_have_a_secret_and_says_so(shop: JobShop) -> None:
    text = """
jobs:
  key: {image: "base:1", secrets: [{name: KEY, optional: true}], outputs: [said], run: echo key > said}
  made: {image: "base:1", outputs: [made], run: echo made > made}
  app: {build: ., needs: [WANTED]}
"""
    files = {"Dockerfile": "FROM base:1\nCOPY made /made\nRUN cat /made\n"}

    def steps(needs: str, secret: bool) -> dict[str, str]:
        given = {"secrets": {"KEY": b"correct-horse-battery"} if secret else {}}
        assert shop.run(text.replace("WANTED", needs), files=files, given=given, domain=protected("app")).state
        ended = [event for event in shop.last.events if isinstance(event, StepFinished)]
        names = [shop.last.names[event.id].partition("] ")[2] for event in ended]
        return {name: event.reason or event.outcome for name, event in zip(names, ended, strict=True) if "made" in name}

    assert set(steps("made", False).values()) == {"not built before"}
    assert set(steps("made", True).values()) == {"cached"}, "the run has a secret, and what this is made of has not"
    other = "for whom its result counts has changed: everybody → the project"
    assert set(steps("made, key", True).values()) == {other}
    assert set(steps("made, key", True).values()) == {"cached"}


class Publisher:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, ...]] = []

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        return tuple(Reference.parse(f"registry.example/{tag}") for tag in tags or ("project:7",))

    def push(self, names: tuple[Reference, ...], result: object) -> str:
        self.pushed.append(tuple(name.familiar for name in names))
        return f"sha256:{'1' * 64}"


def test_build_is_pushed_by_whoever_may(shop: JobShop) -> None:
    publisher = Publisher()
    text = "jobs: {app: {build: ., %s}}"
    outcome = shop.run(text.replace(", %s", ""), files=IMAGE, publisher=publisher)
    digest = f"sha256:{'1' * 64}"
    assert outcome.exports == {"IMAGE": f"registry.example/project@{digest}", "DIGEST": digest}
    outcome = shop.run("jobs: {app: {build: {tags: 'x:1', push: false}}}", files=IMAGE, publisher=publisher)
    assert outcome.exports["IMAGE"].startswith("registry.example/x@sha256:")
    assert publisher.pushed == [("registry.example/project:7",)]


def test_build_that_fails_says_where_and_leaves_no_image(shop: JobShop) -> None:
    files = {"Dockerfile": "FROM base:1\nRUN echo why >&2; exit 9\n", "Bad": "FRUM x\n"}
    outcome = shop.run("jobs: {app: {build: {tags: 'app:1'}}}", files=files)
    assert (outcome.state, outcome.failure, outcome.exit_code, outcome.image) == ("failed", "failure", 9, "")
    assert "Dockerfile:2:1" in outcome.message
    outcome = shop.run("jobs: {app: {build: {file: Bad}}}", files=files)
    assert (outcome.state, outcome.failure) == ("failed", "")
    assert "Bad:1:1" in outcome.message


def test_job_of_an_image_that_was_not_made(shop: JobShop) -> None:
    text = """
jobs:
  app: {build: ., may_fail: true}
  use: {image: {job: app}, run: "true", after: always}
"""
    outcome = shop.run(text, files={"Dockerfile": "FROM base:1\nRUN false\n"})
    assert outcome.message == '"app" has made no image in this run (a job that may fail makes none when it does)'


def test_build_has_the_secrets_the_network_and_the_limits_of_its_job(shop: JobShop) -> None:
    files = {
        "Dockerfile": (
            "FROM base:1 AS one\nARG LEVEL\n"
            "RUN --mount=type=secret,id=KEY cat /run/secrets/KEY; echo; ls /sys/class/net; echo $LEVEL\n"
            "FROM base:1 AS other\nRUN for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; wait\n"
        )
    }
    text = """
jobs:
  ok: {build: {target: one, secrets: [KEY], args: {LEVEL: "l ${SHIPLAP_EVENT}"}}, network: none}
  over: {build: {target: other}, limits: {pids: 8}}
  late: {build: {target: other}, timeout: 1s}
"""
    outcome = shop.run(text, files=files, given={"secrets": {"KEY": b"correct-horse-battery"}})
    said = shop.seen["ok"].said
    assert shop.outcomes["ok"].state == "succeeded", shop.outcomes["ok"]
    assert "horse" not in said
    assert said.split()[-3:] == ["lo", "l", "push"]
    assert (shop.outcomes["over"].state, shop.outcomes["over"].failure) == ("failed", "limit")
    assert "it could not make more processes: its limit is 8" in shop.outcomes["over"].message
    assert (outcome.state, outcome.failure) == ("failed", "timeout")
    assert shop.left() == []


def test_build_for_several_platforms_with_attestations(shop: JobShop, busybox_tar: Path) -> None:
    """IMAGE is the index, which has them all; later jobs run in the image for this machine."""
    other = "linux/riscv64"
    shop.bring(busybox_tar, "base:2", env=("OF_THE_IMAGE=here",))
    text = f"""
jobs:
  app: {{build: {{tags: app, platforms: [{Platform.host()}, {other}], sbom: true, provenance: max}}}}
  use: {{image: {{job: app}}, run: "cat /f; uname -m"}}
"""
    outcome = shop.run(text, files={"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "x\n"})
    app = shop.outcomes["app"]
    assert app.state == "succeeded", app
    index = shop.store.images.indexes.get(Digest.parse(app.exports["DIGEST"]))
    assert {str(image.config.platform) for image in index.images} == {str(Platform.host()), other}
    assert app.exports["IMAGE"] == f"app@{app.exports['DIGEST']}"
    assert (
        outcome.message
        == "the image of app has no sh (take an image that has it, or `args`: a command without a shell)"
    )


_COPIED = """
jobs:
  before: {image: "base:1", run: "%s", outputs: out}
  app: {needs: before, build: {context: "%s", file: D}}
  use: {image: {job: app}, run: "cd /all; cat out/*; stat -c '%%h %%n' out/*"}
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mkdir out; echo one >out/a; echo two >out/b", "one\ntwo\n1 out/a\n1 out/b\n"),
        ("mkdir out; echo one >out/a; ln out/a out/b", "one\none\n2 out/a\n2 out/b\n"),
    ],
)
def test_files_of_a_context_are_those_of_the_workspace(shop: JobShop, script: str, said: str) -> None:
    """Their digests are known from the layers; files of several names stay one file."""
    files = {"D": "FROM base:1\nCOPY . /all\n", "out/a": "before\n"}
    script = f"rm -rf out; {script}"
    assert shop.run(_COPIED % (script, "."), files=files).state == "succeeded", shop.outcomes
    assert shop.last.said == said
    assert shop.run(_COPIED % (script, "."), files=files).state == "succeeded"
    assert {ended for name, (ended, _) in shop.seen["app"].steps.items() if "COPY" in name} == {"cached"}
    assert shop.run(_COPIED % (script.replace("one", "three"), "."), files=files).state == "succeeded"
    assert shop.last.said == said.replace("one", "three")


def test_context_below_another_name(shop: JobShop) -> None:
    files = {"deep/er/D": "FROM base:1\nCOPY . /all\n", "deep/er/f": "x\n", "f": "no\n"}
    text = "jobs: {app: {build: {context: deep/er/, file: D}}, use: {image: {job: app}, run: 'cat /all/f; ls /all'}}"
    assert shop.run(text, files=files).state == "succeeded"
    assert shop.last.said.split() == ["x", "D", "f"]
