"""Images for several platforms: what they share, what differs, and what runs for a processor that is not this one's."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import OutputError
from builder.request.output import Output
from builder.running.failures import StepFailedError
from core.events import StepStarted
from core.platforms import Platform
from core.references import Reference
from dockerfile_grammar import DockerfileError
from registry.client import Client, ClientConfig
from tests.builder.workshops import Layout, Workshop, workshop
from tests.toolkit.bounds import stretched
from tests.toolkit.foreign import run_tool

pytestmark = pytest.mark.usefixtures("privileged")

CHECKOUT = Path(__file__).resolve().parents[2]
HOST, ARM64, ARM = Platform.host(), Platform.parse("linux/arm64"), Platform.parse("linux/arm/v7")
# How Debian registers it: ELF of 64 bits for AArch64, programs and shared objects; opened now (F), argv[0] kept (P).
MAGIC = (
    r":shiplap-test-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{interpreter}:PF"
)
CROSS = """\
FROM --platform=$BUILDPLATFORM base AS prepare
RUN echo prepared > /prepared
FROM prepare AS build
ARG TARGETPLATFORM TARGETARCH TARGETVARIANT BUILDPLATFORM
RUN echo $TARGETPLATFORM,$TARGETARCH,$TARGETVARIANT,$BUILDPLATFORM > /for
FROM scratch
COPY --from=build /prepared /for /
"""


@pytest.fixture(scope="session")
def foreign() -> Path:
    """A directory with an emulator and a root filesystem for linux/arm64."""
    made = subprocess.run([CHECKOUT / "scripts" / "foreign-arch"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, foreign: Path, privileged: None
) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("platforms"), busybox_tar) as made:
        made.bring(foreign / "busybox.tar", "foreign", ARM64)
        yield made


def steps(shop: Workshop) -> list[int]:
    return [event.id for event in shop.seen.events if isinstance(event, StepStarted)]


def test_what_platforms_share_runs_once_and_cross_compiling_needs_no_emulation(shop: Workshop, tmp_path: Path) -> None:
    output = Output("local", str(tmp_path / "out"))
    result = shop.build(CROSS, output, platforms=(HOST, ARM64, ARM))
    assert (result.executed, result.cached) == (1 + 3 + 3, 0)
    assert len(steps(shop)) == len(set(steps(shop))) == 1 + 1 + 3 + 3 + 1  # FROM, what is counted, the export
    written = {path.name: (path / "for").read_text().strip() for path in (tmp_path / "out").iterdir()}
    assert written == {
        str(HOST).replace("/", "_"): f"{HOST},{HOST.architecture},,{HOST}",
        "linux_arm64": f"linux/arm64,arm64,,{HOST}",
        "linux_arm_v7": f"linux/arm/v7,arm,v7,{HOST}",
    }
    again = shop.build(CROSS, output, platforms=(HOST, ARM64, ARM))
    assert (again.executed, again.cached) == (0, 7)


def test_an_index_has_an_image_for_each(shop: Workshop, tmp_path: Path) -> None:
    name = Reference.parse("several:1")
    result = shop.build(
        CROSS, Output("image", "", (name,)), Output("oci", str(tmp_path / "out"), as_tar=False), platforms=(HOST, ARM)
    )
    assert result.is_index
    assert result.root is not None
    assert result.config_digest == result.root.digest
    index = shop.store.images.indexes.find("several:1")
    assert index is not None
    assert [image.config.platform for image in index.images] == [HOST, ARM]
    layout = Layout(tmp_path / "out")
    assert layout.root()["digest"] == index.digest  # an archive and the store say the same
    config = run_tool(
        *("skopeo", "--override-arch", "arm", "--override-variant", "v7"),
        *("inspect", "--config", f"oci:{layout.directory}"),
    )
    assert json.loads(config)["variant"] == "v7"


def test_one_platform_is_an_index_where_an_argument_says_so(shop: Workshop, tmp_path: Path) -> None:
    layout, tree = Output("oci", str(tmp_path / "out"), as_tar=False), Output("local", str(tmp_path / "tree"))
    for value, several in (("1", True), ("false", False)):
        result = shop.build("FROM base\n", layout, tree, build_args={"BUILDKIT_MULTI_PLATFORM": value})
        assert result.is_index == several
        assert ("manifests" in Layout(tmp_path / "out").document(Layout(tmp_path / "out").root())) == several
        assert (tmp_path / "tree" / "bin").exists() != several
    assert (tmp_path / "tree" / str(HOST).replace("/", "_") / "bin").exists()


def test_platforms_have_directories_of_their_own_in_a_tar(shop: Workshop, tmp_path: Path) -> None:
    shop.build(CROSS, Output("tar", str(tmp_path / "out.tar")), platforms=(ARM64, ARM))
    listed = run_tool("tar", "-tf", tmp_path / "out.tar").split()
    assert listed == [
        *("linux_arm64/", "linux_arm64/for", "linux_arm64/prepared"),
        *("linux_arm_v7/", "linux_arm_v7/for", "linux_arm_v7/prepared"),
    ]
    with pytest.raises(OutputError, match="/for of linux/arm/v7 is in the way of that of linux/arm64"):
        shop.build(CROSS, Output("local", str(tmp_path / "out"), platform_split=False), platforms=(ARM64, ARM))


def test_a_docker_archive_has_room_for_one_platform(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no room for several platforms"):
        shop.build(CROSS, Output("docker", str(tmp_path / "out")), platforms=(HOST, ARM64))
    shop.build(CROSS, Output("docker", str(tmp_path / "out")), platforms=(ARM64,))


def test_a_base_for_another_platform_is_refused_where_one_is_asked_for(shop: Workshop) -> None:
    with pytest.raises(DockerfileError, match="foreign is an image for linux/arm64, not for linux/s390x"):
        shop.build("FROM --platform=linux/s390x foreign\n", Output("image"))


def test_a_base_that_is_here_for_another_platform_only_is_asked_for_at_its_registry(
    shop: Workshop, tmp_path: Path
) -> None:
    def connect() -> Client:
        return Client(ClientConfig(tmp_path, insecure=("127.0.0.1:1",)))

    shop.store.images.tag(Reference.parse("127.0.0.1:1/foreign"), shop.store.images.resolve("foreign").id)
    with pytest.raises(DockerfileError) as caught:
        shop.build("FROM 127.0.0.1:1/foreign\n", Output("image"), platforms=(ARM, HOST), connect=connect)
    assert f"foreign is here for linux/arm64, not for {ARM}; pulling it failed:" in str(caught.value)
    assert caught.value.hint == "is it running, and the port right?"


def test_what_cannot_run_here_says_what_it_needs(shop: Workshop) -> None:
    with pytest.raises(StepFailedError) as caught:
        shop.build("FROM foreign\nRUN true\n", Output("image"), platforms=(ARM64,))
    assert "exec format error" in caught.value.message
    assert caught.value.hint is not None
    assert "the image is for linux/arm64, this machine is" in caught.value.hint
    assert "qemu-user-binfmt" in caught.value.hint


def test_what_cannot_run_here_runs_in_an_emulator(shop: Workshop, foreign: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own: what is registered goes with it."""
    (tmp_path / "Dockerfile").write_text("FROM foreign\nRUN uname -m > /machine && echo ran by $(uname -m)\n")
    root = shop.store.root
    build = (sys.executable, "-m", "cli", "--root", root, "build", "--progress=plain", "--platform=linux/arm64")
    words = [*build, "-o", f"type=local,dest={tmp_path / 'out'}", tmp_path]
    script = (
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&"
        ' printf %s "$0" > /proc/sys/fs/binfmt_misc/register && exec ' + shlex.join(map(str, words))
    )
    magic = MAGIC.format(interpreter=foreign / "qemu-aarch64")
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, magic],
        capture_output=True,
        text=True,
        timeout=stretched(120),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert ran.returncode == 0, ran.stderr
    assert "ran by aarch64" in ran.stderr
    assert (tmp_path / "out" / "machine").read_text() == "aarch64\n"
