"""The planned config and history, against what docker 26.1's BuildKit made of the same Dockerfiles.

``buildkit/<case>/result.json`` is that image's config without times: ``docker build [arguments]`` of the case's
Dockerfile on a base image named ``base`` that has one layer and an empty config, then ``docker save``.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.bases import NewStep
from builder.contexts.context import Context
from builder.errors import EntitlementError, UnsupportedError
from builder.frontend.stages import Planned, plan
from builder.graph.vertices import CopyOp, RunOp, WorkdirOp
from builder.request.request import BuildRequest
from core.digests import DiffID, Digest
from core.platforms import Platform
from dockerfile_grammar import DockerfileError, parse
from images.errors import ImageNotFoundError
from images.oci import ImageConfig, encode
from registry.errors import OutOfBoundsError

CASES = sorted((Path(__file__).parent / "buildkit").iterdir())
BASE = SimpleNamespace(
    id=Digest.of(b"config"),
    config=ImageConfig.for_platform(Platform("linux", "amd64")),
    diff_ids=(DiffID.of(b"base"),),
)


def resolve(name: str, platform: Platform | None, new_step: NewStep | None) -> Any:
    if name != "base":
        raise ImageNotFoundError(f"no such image: {name}", hint="import it")
    return BASE


def planned(text: str | bytes, tmp_path: Path, **options: Any) -> Planned:
    data = text.encode() if isinstance(text, str) else text
    with Context.open_directory(str(tmp_path)) as context:
        request = BuildRequest(data, "Dockerfile", context, **{"platforms": (Platform("linux", "amd64"),), **options})
        return plan(parse(data, "Dockerfile"), request, resolve)


def options_of(arguments: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"build_args": {}, "labels": {}}
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        if flag == "--target":
            options["target"] = value
        else:
            name, _, text = value.partition("=")
            options[{"--build-arg": "build_args", "--label": "labels"}[flag]][name] = text
    return options


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_config_and_history_are_buildkits(case: Path, tmp_path: Path) -> None:
    expected = json.loads((case / "result.json").read_text())
    result = planned((case / "Dockerfile").read_bytes(), tmp_path, **options_of(expected["arguments"])).plan
    config = json.loads(encode(result.image.config))
    del config["rootfs"]
    history = [json.loads(encode(entry)) for entry in result.image.history]
    layers = sum(not entry.empty_layer for entry in result.image.history)
    base_layers = expected["image"].pop("layers") - layers
    assert {**config, "history": history} == expected["image"]
    starts_from_scratch = b"FROM scratch" in (case / "Dockerfile").read_bytes()
    assert base_layers == (0 if starts_from_scratch else 1)


def test_image_from_scratch_with_metadata_only_has_no_layer(tmp_path: Path) -> None:
    result = planned("FROM scratch\nLABEL a=b\n", tmp_path).plan
    assert result.image.result is None
    assert result.chains == ()


def steps(result: Planned) -> list[str]:
    return [step.name for step in result.plan.steps]


def test_stages_that_the_target_does_not_need_are_not_planned(tmp_path: Path) -> None:
    text = "FROM nowhere AS broken\nRUN a\nFROM base AS used\nRUN b\nFROM base\nCOPY --from=used /x /x\n"
    assert steps(planned(text, tmp_path)) == [
        "[stage-2 1/2] FROM base",
        "[used 1/2] FROM base",
        "[used 2/2] RUN b",
        "[stage-2 2/2] COPY --from=used /x /x",
    ]


def test_chains_come_after_those_they_read_from(tmp_path: Path) -> None:
    text = "FROM base AS a\nRUN 1\nFROM base AS b\nRUN 2\nFROM base\nCOPY --from=b /x /x\nCOPY --from=a /x /x\n"
    assert [chain.name for chain in planned(text, tmp_path).plan.chains] == ["b", "a", "stage-2"]


def test_build_arg_that_nothing_declares_is_reported(tmp_path: Path) -> None:
    result = planned("FROM base\nARG USED\nRUN x\n", tmp_path, build_args={"USED": "1", "LOST": "2", "http_proxy": "p"})
    assert result.unused_args == ("LOST",)


def run_op(result: Planned) -> RunOp:
    return next(vertex.op for vertex in result.plan.vertices() if isinstance(vertex.op, RunOp))


def test_proxy_reaches_the_process_and_not_the_cache_key(tmp_path: Path) -> None:
    op = run_op(planned("FROM base\nRUN x\n", tmp_path, build_args={"HTTP_PROXY": "p"}))
    assert op.untracked_env == (("HTTP_PROXY", "p"), ("http_proxy", "p"))
    assert op.identity() == run_op(planned("FROM base\nRUN x\n", tmp_path)).identity()


def test_declared_proxy_is_part_of_the_cache_key(tmp_path: Path) -> None:
    text = "FROM base\nARG HTTP_PROXY\nRUN x\n"
    op = run_op(planned(text, tmp_path, build_args={"HTTP_PROXY": "p"}))
    assert dict(op.env)["HTTP_PROXY"] == "p"
    assert op.identity() != run_op(planned(text, tmp_path, build_args={"HTTP_PROXY": "q"})).identity()


def test_later_of_env_and_arg_wins(tmp_path: Path) -> None:
    assert dict(run_op(planned("FROM base\nENV A=env\nARG A=arg\nRUN x\n", tmp_path)).env)["A"] == "arg"
    assert dict(run_op(planned("FROM base\nARG A=arg\nENV A=env\nRUN x\n", tmp_path)).env)["A"] == "env"


def test_child_stage_inherits_args(tmp_path: Path) -> None:
    text = "FROM base AS a\nARG X=1\nFROM a\nRUN x\n"
    assert dict(run_op(planned(text, tmp_path)).env)["X"] == "1"


def test_arg_before_from_is_invisible_until_redeclared(tmp_path: Path) -> None:
    text = "ARG X=1\nFROM base\nENV BEFORE=$X\nARG X\nENV AFTER=$X\nRUN x\n"
    env = dict(run_op(planned(text, tmp_path)).env)
    assert (env["BEFORE"], env["AFTER"]) == ("", "1")


def test_args_on_one_line_are_sequential(tmp_path: Path) -> None:
    assert dict(run_op(planned("FROM base\nARG A=1 B=$A-2\nRUN x\n", tmp_path)).env)["B"] == "1-2"


def copy_op(result: Planned) -> CopyOp:
    return next(vertex.op for vertex in result.plan.vertices() if isinstance(vertex.op, CopyOp))


@pytest.mark.parametrize(
    ("destination", "expected"),
    [(".", "/w/"), ("./", "/w/"), ("x", "/w/x"), ("x/", "/w/x/"), ("/", "/"), ("../x/.", "/x/"), ("/a//b", "/a/b")],
)
def test_copy_destination_is_absolute_and_keeps_its_slash(destination: str, expected: str, tmp_path: Path) -> None:
    result = planned(f"FROM base\nWORKDIR /w\nCOPY f {destination}\n", tmp_path)
    assert copy_op(result).spec.destination == expected


def test_copy_heredoc_expands_unless_quoted(tmp_path: Path) -> None:
    text = 'FROM base\nENV A=1\nCOPY <<X <<"Y" /d/\n$A\nX\n$A\nY\n'
    assert copy_op(planned(text, tmp_path)).spec.heredocs == (("X", b"1\n"), ("Y", b"$A\n"))


@pytest.mark.parametrize("verb", ["COPY", "ADD"])
@pytest.mark.parametrize("name", ["w/a", "/w/a", "../w/a", ".", "..", "/", "a/.."])
def test_heredoc_whose_name_no_file_can_have_is_refused_with_the_reason(tmp_path: Path, verb: str, name: str) -> None:
    with pytest.raises(DockerfileError, match=r"2:[56]: <<.* copied as a file of its name, and no file has") as caught:
        planned(f"FROM base\n{verb} <<{name} /d/\nx\n{name}\n", tmp_path)
    assert "without slashes" in (caught.value.hint or "")


def test_lines_cannot_make_a_plan_of_any_size_by_variables(tmp_path: Path) -> None:
    """Each of them is short, and each word that comes of it is allowed."""
    long = f"FROM base\nARG a={'x' * 10_000}\nARG b={'$a' * 100}\n"
    assert len(dict(planned(f"{long}LABEL l=$b\n", tmp_path).plan.images[0].config.config.labels)["l"]) == 1_000_000
    for line in ("LABEL l=$b\n", "ARG c=$b\n", "COPY <<e /\n$b\ne\n", "LABEL $b=x\n"):
        with pytest.raises(DockerfileError, match=r"Dockerfile:\d+:\d+: up to here, variables make .* 16 MiB"):
            planned(long + line * 17, tmp_path)
    ports = f'FROM base\nARG a="{"80 " * 3000}"\nARG b="{"$a" * 100}"\n'
    with pytest.raises(DockerfileError, match=r"Dockerfile:\d+:\d+: up to here, variables make .* 16 MiB"):
        planned(ports + "EXPOSE $b\n" * 40, tmp_path)
    with pytest.raises(DockerfileError, match=r"Dockerfile:\d+:\d+: up to here, variables make .* 16 MiB"):
        planned(long.partition("\n")[2] + "ARG c=$b\n" * 17 + "FROM base\n", tmp_path)


def test_run_heredoc_with_shebang_becomes_a_file(tmp_path: Path) -> None:
    op = run_op(planned("FROM base\nRUN <<E\n#!/bin/x\nbody\nE\n", tmp_path))
    assert op.args == ("/bin/sh", "-c", "/dev/pipes/E")
    assert [(file.path, file.content, file.mode) for file in op.files] == [("/dev/pipes/E", b"#!/bin/x\nbody\n", 0o755)]


def test_workdir_step_knows_the_user(tmp_path: Path) -> None:
    result = planned("FROM base\nUSER app\nWORKDIR /x\n", tmp_path)
    op = next(vertex.op for vertex in result.plan.vertices() if isinstance(vertex.op, WorkdirOp))
    assert op == WorkdirOp("/x", "app")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("FROM bsae\n", "1:6: no such image: bsae", "import it"),
        ("FROM base AS build\nFROM biuld\n", "2:6: no such image: biuld", "did you mean the stage build?"),
        (
            "FROM base\nCOPY --from=later a b\nFROM base AS later\nCOPY --from=0 x y\n",
            "--from=later is a later",
            "earl",
        ),
        ("FROM base AS me\nCOPY --from=me a b\n", "--from=me is the stage itself", "earlier"),
        ("FROM base\nCOPY --from=7 a b\n", "--from=7: there is no stage 7", "count from 0"),
        ("ARG B\nFROM $B\n", "name is empty after expansion of $B", "default before FROM"),
        ("FROM base\nEXPOSE 80/icmp\n", "invalid protocol 'icmp'", "tcp, udp or sctp"),
        ("FROM base\nEXPOSE x\n", "invalid port 'x'", "PORT"),
        ("FROM base\nSTOPSIGNAL SIGKIL\n", "unknown signal 'SIGKIL'", "SIGKILL"),
        ("FROM base\nENV A=${B:?needed}\n", "needed", None),
        ("FROM --platform=linux/arm64 base\n", "is an image for linux/amd64, not for linux/arm64", "that platform"),
    ],
)
def test_error_names_the_place_and_the_next_step(text: str, message: str, hint: str | None, tmp_path: Path) -> None:
    with pytest.raises(DockerfileError) as caught:
        planned(text, tmp_path)
    assert message in caught.value.message
    assert caught.value.message.startswith("Dockerfile:")
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_unknown_target_suggests_a_stage(tmp_path: Path) -> None:
    with pytest.raises(DockerfileError, match="target stage 'biuld'") as caught:
        planned("FROM base AS build\n", tmp_path, target="biuld")
    assert caught.value.hint == "did you mean build?"


def test_device_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"Dockerfile:2:5: RUN --device is not supported"):
        planned("FROM base\nRUN --device=vendor.test/class=one x\n", tmp_path)


@pytest.mark.parametrize(
    ("flag", "entitlement"), [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
)
def test_what_needs_an_entitlement_is_refused_without_it(flag: str, entitlement: str, tmp_path: Path) -> None:
    with pytest.raises(EntitlementError, match=f"Dockerfile:2:5: RUN {flag} is not allowed") as caught:
        planned(f"FROM base\nRUN {flag} x\n", tmp_path)
    assert f"--allow {entitlement}" in (caught.value.hint or "")
    op = run_op(planned(f"FROM base\nRUN {flag} x\n", tmp_path, allow=frozenset({entitlement})))
    assert (op.insecure, op.network) == ((True, "default") if "insecure" in flag else (False, "host"))


@pytest.mark.parametrize(
    "line",
    [
        "ADD --checksum=sha256:aa f /x",
        "ADD --checksum=sha256:aa https://example.test/f /x",
        "ADD --checksum=x https://example.test/a.git /x",
        "ADD --checksum=sha256:" + "0" * 64 + " https://example.test/f https://example.test/g /x/",
        "ADD https://example.test/a.git?ref=a&branch=b /x",
        "ADD --keep-git-dir https://example.test/a.git?keep-git-dir=false /x",
        "ADD https://example.test/a.git#--upload-pack=x /x",
        "ADD https:///f /x",
    ],
)
def test_remote_source_that_makes_no_sense_is_refused_with_the_place(line: str, tmp_path: Path) -> None:
    with pytest.raises(DockerfileError) as caught:
        planned(f"FROM base\n{line}\n", tmp_path)
    assert "Dockerfile:2:" in str(caught.value)


class Asked:
    """Looks images up, and keeps whether a registry was to be asked. known: the names that the store has."""

    def __init__(self, *known: str) -> None:
        self.known = {"base", *known}
        self.registries: list[str] = []

    def __call__(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Any:
        if new_step is not None and name not in self.known:
            self.registries.append(name)
            raise OutOfBoundsError("no network")
        if name not in self.known:
            raise ImageNotFoundError(f"no such image: {name}")
        return BASE


def plan_with(asked: Asked, text: str, tmp_path: Path) -> None:
    with Context.open_directory(str(tmp_path)) as context:
        plan(parse(text.encode(), "Dockerfile"), BuildRequest(text.encode(), "Dockerfile", context), asked)


@pytest.mark.parametrize(
    "text",
    [
        "FROM base AS build\nFROM biuld\n",
        "FROM base AS build\nFROM base\nCOPY --from=biuld a b\n",
        "FROM base AS build\nFROM base\nCOPY --from=buidl a b\n",
        "FROM base AS assets\nFROM base\nRUN --mount=from=asets,target=/x true\n",
    ],
)
def test_no_registry_is_asked_for_a_stage_that_is_surely_mistyped(text: str, tmp_path: Path) -> None:
    asked = Asked()
    with pytest.raises(DockerfileError, match="no such image") as caught:
        plan_with(asked, text, tmp_path)
    assert asked.registries == []
    assert (caught.value.hint or "").startswith(f"did you mean the stage {text.split()[3]}?")


@pytest.mark.parametrize(
    "text",
    [
        "FROM base AS nginx2\nFROM nginx\n",
        "FROM base AS nodes\nFROM base\nCOPY --from=node a b\n",
        "FROM base AS ruby\nFROM rudy:3\n",
        "FROM base AS php\nFROM pho\n",
        "FROM base AS gonlang\nFROM base\nCOPY --from=golang a b\nFROM golang:1.24\n",
        "FROM base AS later\nFROM base\nCOPY --from=docker.io/library/latre a b\n",
    ],
)
def test_a_registry_is_asked_for_what_may_be_an_image(text: str, tmp_path: Path) -> None:
    asked = Asked()
    with pytest.raises(DockerfileError, match="no network") as caught:
        plan_with(asked, text, tmp_path)
    assert len(asked.registries) == 1
    assert "did you mean" not in (caught.value.hint or "")


def test_an_image_of_the_store_is_taken_however_like_a_stage_it_is_called(tmp_path: Path) -> None:
    asked = Asked("biuld")
    plan_with(asked, "FROM base AS build\nFROM biuld\n", tmp_path)
    assert asked.registries == []


@pytest.mark.parametrize(
    ("text", "platforms", "asked"),
    [
        ("FROM base\n", (), None),
        ("FROM --platform=linux/amd64 base\n", (), Platform("linux", "amd64")),
        ("FROM base\n", (Platform("linux", "amd64"),), Platform("linux", "amd64")),
    ],
)
def test_image_is_asked_for_by_platform_where_one_is_named(
    tmp_path: Path, text: str, platforms: tuple[Platform, ...], asked: Platform | None
) -> None:
    """Else whatever is here will do."""
    seen: list[Platform | None] = []

    def noting(name: str, platform: Platform | None, new_step: NewStep | None) -> Any:
        seen.append(platform)
        return resolve(name, platform, new_step)

    with Context.open_directory(str(tmp_path)) as context:
        plan(parse(text), BuildRequest(text.encode(), "Dockerfile", context, platforms=platforms), noting)
    assert seen == [asked]
