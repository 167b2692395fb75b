"""Build contexts, made the same on every machine: the seed decides all names, sizes and bytes."""

from __future__ import annotations

import os
import random
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

BASE = "bench-base"  # the image name that every tool has the busybox base under
PACKAGES = "bench-packages"  # and Debian, with what ``install_package`` installs already downloaded
PYTHON = "bench-python"  # and with pip
_FILES_PER_DIRECTORY = 100
_POOL_BYTES = 4 << 20
_INSTRUCTIONS_PER_STAGE = 1000
_STAGE_WITH_FILE = "FROM scratch AS made\nCOPY big /big\n"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How big the work is.

    files, total_bytes: of the COPY context.
    steps: number of RUN instructions.
    stages: that are independent.
    big_bytes: of the one file.
    many: files of the context that is built again.
    huge: files of the largest context.
    made: files that one RUN makes.
    instructions, runs: of the long Dockerfile.
    lines: that one RUN prints.
    modules: of the Python app.
    package: Debian's, to be installed; none: something on busybox in its place.
    """

    files: int = 20_000
    total_bytes: int = 180_000_000
    steps: int = 20
    stages: int = 4
    big_bytes: int = 1_000_000_000
    many: int = 100_000
    huge: int = 200_000
    made: int = 50_000
    instructions: int = 1000
    runs: int = 50
    lines: int = 1_000_000
    modules: int = 200
    package: str = "gcc"

    def of_many_files(self) -> Sizes:
        """The same for a context of ``many`` small files."""
        return replace(self, files=self.many, total_bytes=self.many * 1000)

    def of_a_huge_tree(self) -> Sizes:
        """The same for a context of ``huge`` small files."""
        return replace(self, files=self.huge, total_bytes=self.huge * 1000)


SHORT = Sizes(
    files=200, total_bytes=1_000_000, steps=3, stages=2, big_bytes=1_000_000, many=300, huge=300, made=50,
    instructions=20, runs=3, lines=1000, modules=3, package="",
)  # fmt: skip


def run_steps(directory: Path, sizes: Sizes) -> Path:
    """A context whose Dockerfile has ``sizes.steps`` RUN instructions, each of which writes one file."""
    directory.mkdir(parents=True)
    lines = [f"FROM {BASE}", *(f"RUN echo {step} > /step-{step}" for step in range(sizes.steps))]
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def copy_then_run(directory: Path, sizes: Sizes, seed: int) -> Path:
    """A context of ``sizes.files`` files, copied by one COPY and followed by one RUN.

    Sizes are exponentially distributed, as in source trees; contents do not compress. Different seeds share no file, so
    no builder knows anything of a context that it sees for the first time.
    """
    chance = random.Random(seed)
    pool = memoryview(chance.randbytes(_POOL_BYTES))
    weights = [chance.expovariate(1) for _ in range(sizes.files)]
    scale = sizes.total_bytes / sum(weights)
    tree = directory / "tree"
    for index, weight in enumerate(weights):
        parent = os.path.join(tree, f"d{index // _FILES_PER_DIRECTORY:04}")
        if index % _FILES_PER_DIRECTORY == 0:
            os.makedirs(parent)
        size = min(int(weight * scale), _POOL_BYTES // 2)
        start = chance.randrange(_POOL_BYTES // 2)
        with open(os.path.join(parent, f"f{index:06}"), "wb") as file:
            file.write(b"%d:%d\n" % (seed, index))
            file.write(pool[start : start + size])
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nCOPY tree /tree\nRUN cat /tree/d0000/* | wc -c > /size\n")
    return directory


def independent_stages(directory: Path, sizes: Sizes) -> Path:
    """Stages that take a second each, and one that needs them all."""
    directory.mkdir(parents=True)
    lines = [f"FROM {BASE} AS s{number}\nRUN sleep 1 && echo {number} > /out" for number in range(sizes.stages)]
    lines += [f"FROM {BASE}", *(f"COPY --from=s{number} /out /out{number}" for number in range(sizes.stages))]
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def one_big_file(directory: Path, sizes: Sizes, seed: int) -> Path:
    """A file that does not compress, in one layer."""
    directory.mkdir(parents=True)
    chance = random.Random(seed)
    with open(directory / "big", "wb") as file:
        file.writelines(chance.randbytes(min(left, _POOL_BYTES)) for left in range(sizes.big_bytes, 0, -_POOL_BYTES))
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nCOPY big /big\n")
    return directory


def big_file_of_a_stage(directory: Path, sizes: Sizes, seed: int) -> Path:
    """The same file in a stage of its own, which is the last one so far."""
    one_big_file(directory, sizes, seed)
    (directory / "Dockerfile").write_text(_STAGE_WITH_FILE)
    return directory


def copy_from_the_stage(context: Path, place: str) -> None:
    """Let a further stage have the file at this place."""
    (context / "Dockerfile").write_text(f"{_STAGE_WITH_FILE}FROM {BASE}\nCOPY --from=made /big {place}\n")


def write_one_big_file(directory: Path, sizes: Sizes) -> Path:
    """One RUN that writes a file as big as the other ones."""
    directory.mkdir(parents=True)
    command = f"dd if=/dev/zero of=/big bs=1000000 count={sizes.big_bytes // 1_000_000}"
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN {command}\n")
    return directory


def make_files(directory: Path, sizes: Sizes, number: int) -> Path:
    """One RUN that makes ``sizes.made`` small files. number: of the round, for no round knows another's step."""
    directory.mkdir(parents=True)
    one = f"[ $((i % {_FILES_PER_DIRECTORY})) = 0 ] && d=/made/$i && mkdir $d; echo {number} > $d/$i; i=$((i+1))"
    command = f"mkdir /made; i=0; while [ $i -lt {sizes.made} ]; do {one}; done"
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN {command}\n")
    return directory


def remove_files(context: Path) -> None:
    """Another RUN, which removes them."""
    with (context / "Dockerfile").open("a") as file:
        file.write("RUN rm -r /made\n")


def many_lines(directory: Path, sizes: Sizes) -> Path:
    """One RUN that prints much."""
    directory.mkdir(parents=True)
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN seq {sizes.lines}\n")
    return directory


def long_dockerfile(directory: Path, sizes: Sizes) -> Path:
    """RUN true, spread evenly over ENV and LABEL."""
    directory.mkdir(parents=True)
    every = max(2, sizes.instructions // sizes.runs)
    lines = [f"FROM {BASE}"]
    for number in range(1, sizes.instructions):
        if number % every == 0:
            lines.append("RUN true")
        else:
            lines.append(f"ENV NAME{number % 10}=value{number}" if number % 2 else f"LABEL label{number % 10}={number}")
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def python_app(directory: Path, sizes: Sizes) -> Path:
    """A context with a package for pip, which needs no network, and an app. On busybox, things are copied."""
    (directory / "src").mkdir(parents=True)
    (directory / "wheels").mkdir()
    body = "".join(f"def function_{number}(x):\n    return x * {number} + {number}\n\n\n" for number in range(100))
    for number in range(sizes.modules):
        (directory / "src" / f"module_{number}.py").write_text(body)
    info = "benchlib-1.0.dist-info"
    with zipfile.ZipFile(directory / "wheels" / "benchlib-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("benchlib.py", body)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: benchlib\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    pip = "pip install --break-system-packages --no-index --find-links /wheels benchlib"
    install, build = (pip, "python3 -m compileall -q src") if sizes.package else ("cp -r /wheels /lib", "cp -r src out")
    (directory / "Dockerfile").write_text(
        f"FROM {PYTHON}\nWORKDIR /app\nCOPY wheels /wheels\n"
        f"RUN --mount=type=cache,target=/root/.cache {install}\nCOPY . .\nRUN {build}\n"
    )
    return directory


def edit_a_module(context: Path, salt: str) -> None:
    """Give one module of the app another line."""
    with min((context / "src").iterdir()).open("a") as file:
        file.write(f"# {salt}\n")


def python_install(directory: Path) -> Path:
    """A context, on Debian as BASE, for an image with Python and pip. Needs the network."""
    directory.mkdir(parents=True)
    command = "apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*"
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN {command}\n")
    return directory


def package_download(directory: Path, sizes: Sizes) -> Path:
    """A context, on Debian as BASE, for an image that has all that ``install_command`` needs."""
    directory.mkdir(parents=True)
    download = f"apt-get update && apt-get install -y --download-only --no-install-recommends {sizes.package}"
    (directory / "Dockerfile").write_text(f"FROM {BASE}\nRUN {download}\n")
    return directory


def install_command(sizes: Sizes) -> str:
    """No network is needed for it, which would be measured more than the builders."""
    if not sizes.package:
        return "mkdir -p /opt/a/b && cp /bin/busybox /opt/a/b"
    return f"apt-get install -y --no-download --no-install-recommends {sizes.package}"


def install_package(directory: Path, sizes: Sizes) -> Path:
    """One RUN that writes some thousand files."""
    directory.mkdir(parents=True)
    (directory / "Dockerfile").write_text(f"FROM {PACKAGES}\nRUN {install_command(sizes)}\n")
    return directory


def many_stages(directory: Path, instructions: int) -> Path:
    """ENV and LABEL in stages of a thousand, each with a directory of its own that the last stage copies."""
    directory.mkdir(parents=True)
    lines: list[str] = []
    stages = range(0, instructions, _INSTRUCTIONS_PER_STAGE)
    for stage, first in enumerate(stages):
        lines += [f"FROM {BASE} AS s{stage}", f"WORKDIR /made-{stage}"]
        for number in range(first, min(instructions, first + _INSTRUCTIONS_PER_STAGE)):
            lines.append(f"ENV NAME{number % 10}=value{number}" if number % 2 else f"LABEL label{number % 10}={number}")
    lines += [f"FROM {BASE}", *(f"COPY --from=s{stage} /made-{stage} /made-{stage}" for stage in range(len(stages)))]
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def change_one_file(context: Path, salt: str) -> None:
    """Give one file in the middle of the tree another content, as an editor does."""
    directories = sorted((context / "tree").iterdir())
    file = min(directories[len(directories) // 2].iterdir())
    file.write_text(f"changed: {salt}\n")
