"""Whole builds with real containers: what runs, what the cache answers, what is left in the image."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.errors import BuildCancelledError
from builder.request.attestations import Attestations
from builder.request.request import BuildRequest, Output
from builder.result import BuildResult
from builder.running.failures import StepError, StepFailedError
from containers.launcher import Launcher
from core.events import Event, StepFinished, StepOutput, Warned
from core.platforms import Platform
from core.references import Reference
from dockerfile_grammar import DockerfileError, IgnorePatterns
from images.archive import import_rootfs
from images.flatten import write_merged
from images.layers import LayerWriter
from images.oci import ImageConfig
from images.store import Store
from images.summary import Image
from images.tarwriter import TarWriter
from registry.client import Client

pytestmark = pytest.mark.usefixtures("privileged")

NAME = Reference.parse("built:latest")


class Recorder:
    """A monitor that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def output(self) -> str:
        return b"".join(event.data for event in self.events if isinstance(event, StepOutput)).decode()

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.events if isinstance(event, StepFinished)]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, StepFinished) and event.reason]


class Workshop:
    """A store with the image ``base``, a launcher and a context directory."""

    def __init__(self, root: Path, context: Path, base: Path) -> None:
        self.context = context
        context.mkdir()
        self.store = Store.open(root)
        self.state = self.store.tmp / "launcher"
        self.state.mkdir()
        self.launcher = Launcher(self.state)
        with base.open("rb") as stream:
            config = ImageConfig.for_platform(Platform.host())
            import_rootfs(self.store, stream, config, [Reference.parse("base:latest")])
        self.seen = Recorder()

    def build(
        self,
        text: str,
        *,
        cancelled: threading.Event | None = None,
        ignore: str = "",
        solved: Callable[[], None] | None = None,
        connect: Callable[[], Client] | None = None,
        **options: Any,
    ) -> BuildResult:
        self.seen = Recorder()
        patterns = IgnorePatterns.parse(ignore) if ignore else None
        with Context.open_directory(str(self.context), patterns) as context:
            options = {"outputs": (Output("image", "", (NAME,)),), **options}
            request = BuildRequest(text.encode(), "Dockerfile", context, **options)
            tools = BuildTools(
                self.store, self.launcher, self.seen, cancelled=cancelled, solved=solved, connect=connect
            )
            return build(request, tools)

    def counts(self, text: str, **options: Any) -> tuple[int, int]:
        result = self.build(text, **options)
        return result.executed, result.cached

    def files(self, image: Image) -> dict[str, tarfile.TarInfo]:
        return {member.name: member for member in self.archive(image).getmembers()}

    def read(self, image: Image, path: str) -> str:
        file = self.archive(image).extractfile(path)
        assert file is not None
        return file.read().decode()

    def archive(self, image: Image) -> tarfile.TarFile:
        sink = io.BytesIO()
        writer = TarWriter(sink)
        layers = [self.store.layers.open(diff_id) for diff_id in image.diff_ids]
        write_merged(layers, writer)
        for layer in layers:
            layer.close()
        writer.close()
        sink.seek(0)
        return tarfile.open(fileobj=sink)

    def close(self) -> None:
        self.launcher.close()
        self.store.close()


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


def built(result: BuildResult) -> Image:
    assert result.image is not None
    return result.image


def test_run_leaves_its_files_in_a_layer(workshop: Workshop) -> None:
    image = built(workshop.build("FROM base\nRUN mkdir -p /d && echo hello > /d/f && chmod 600 /d/f\n"))
    assert workshop.read(image, "d/f") == "hello\n"
    assert workshop.files(image)["d/f"].mode == 0o600
    assert image.names == (NAME,)


def test_steps_see_what_the_steps_before_left(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("from context")
    image = built(
        workshop.build(
            "FROM base\nRUN echo one > /one\nCOPY f /two\nRUN rm /one && cp /two /three\nWORKDIR /w\nRUN pwd > here\n"
        )
    )
    files = workshop.files(image)
    assert "one" not in files
    assert workshop.read(image, "three") == "from context"
    assert workshop.read(image, "w/here") == "/w\n"


def test_second_build_runs_nothing_and_gives_the_same_image(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("x")
    text = "FROM base\nRUN echo a > /a\nCOPY f /f\nWORKDIR /w\nRUN echo b > b\nLABEL l=1\n"
    first = workshop.build(text)
    second = workshop.build(text)
    assert (first.executed, first.cached) == (4, 0)
    assert (second.executed, second.cached) == (0, 4)
    assert second.config_digest == first.config_digest
    assert "cached" in workshop.seen.outcomes()


def test_changed_file_reruns_the_steps_after_its_copy_only(workshop: Workshop) -> None:
    (workshop.context / "early").write_text("1")
    (workshop.context / "late").write_text("1")
    text = "FROM base\nCOPY early /\nRUN true\nCOPY late /\nRUN cat /late\n"
    workshop.build(text)
    (workshop.context / "late").write_text("2")
    assert workshop.counts(text) == (2, 2)
    assert workshop.seen.output() == "2"
    assert any("changed" in reason for reason in workshop.seen.reasons())


def test_touched_file_is_still_cached(workshop: Workshop) -> None:
    file = workshop.context / "f"
    file.write_text("same")
    workshop.build("FROM base\nCOPY f /\n")
    file.unlink()
    file.write_text("same")
    assert workshop.counts("FROM base\nCOPY f /\n") == (0, 1)


def test_ignored_file_is_no_part_of_the_key(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("1")
    (workshop.context / "log").write_text("1")
    workshop.build("FROM base\nCOPY . /c/\n", ignore="log\n")
    (workshop.context / "log").write_text("2")
    assert workshop.counts("FROM base\nCOPY . /c/\n", ignore="log\n") == (0, 1)


def test_rerun_step_with_an_identical_layer_lets_the_next_stay_cached(workshop: Workshop) -> None:
    touch = "touch -t 202001010000 /f /"
    workshop.build(f"FROM base\nRUN echo same > /f; {touch}; : first way\nRUN cat /f > /g\n")
    result = workshop.counts(f"FROM base\nRUN echo same > /f; {touch}; : second way\nRUN cat /f > /g\n")
    assert result == (1, 1)


def test_a_filesystem_that_has_a_layer_twice_can_be_run_and_copied_from(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("f")
    (workshop.context / "g").write_text("g")
    twice = "FROM base AS twice\nCOPY f /a\nCOPY g /a\nCOPY f /a\nRUN cat /a > /b\n"
    image = built(workshop.build(twice + "FROM base\nCOPY --from=twice /a /b /taken/\n"))
    assert (workshop.read(image, "taken/a"), workshop.read(image, "taken/b")) == ("f", "f")
    image = built(workshop.build(twice + "COPY g /a\nRUN cat /a > /c\n"))
    assert len(set(image.diff_ids)) < len(image.diff_ids)
    assert [workshop.read(image, name) for name in ("a", "b", "c")] == ["g", "f", "g"]


def test_identical_layers_on_different_bases_do_not_hide_what_is_below(workshop: Workshop) -> None:
    # overlayfs marks the new /d opaque in the first build; the second has the same layer over a /d with a file in it.
    (workshop.context / "y").write_text("y")
    step = "RUN mkdir -p /d; echo x > /d/x; touch -t 202001010000 /d/x /d /; chmod 755 /d\n"
    workshop.build(f"FROM base\n{step}")
    image = built(workshop.build(f"FROM base\nCOPY y /d/y\n{step}RUN ls /d\n"))
    assert workshop.seen.output() == "x\ny\n"
    assert {"d/x", "d/y"} <= set(workshop.files(image))


def test_no_cache_runs_everything_again(workshop: Workshop) -> None:
    text = "FROM base\nRUN true\nRUN echo x > /x\n"
    workshop.build(text)
    assert workshop.counts(text, no_cache=True) == (2, 0)
    assert workshop.counts(text) == (0, 2)


def test_build_arg_is_part_of_the_key_only_where_it_is_declared(workshop: Workshop) -> None:
    text = "FROM base\nRUN true\nARG A=1\nRUN echo $A > /a\n"
    workshop.build(text)
    assert workshop.counts(text, build_args={"A": "2"}) == (1, 1)


def test_label_change_runs_nothing(workshop: Workshop) -> None:
    workshop.build("FROM base\nLABEL v=1\nRUN true\n")
    result = workshop.build("FROM base\nLABEL v=2\nRUN true\n", labels={"cli": "yes"})
    assert (result.executed, result.cached) == (0, 1)
    assert built(result).config.config.labels == {"v": "2", "cli": "yes"}


def test_copy_from_stage_is_cached_by_the_content_of_what_it_takes(workshop: Workshop) -> None:
    text = (
        "FROM base AS src\nRUN echo {} > /noise; echo same > /wanted\n"
        "FROM base\nCOPY --from=src /wanted /w\nRUN cat /w\n"
    )
    workshop.build(text.format("one"))
    assert workshop.counts(text.format("two")) == (1, 2)


def test_copy_from_keeps_owner_and_mode(workshop: Workshop) -> None:
    image = built(
        workshop.build(
            "FROM base AS src\nRUN echo x > /f && chown 12:34 /f && chmod 4755 /f\nFROM base\nCOPY --from=src /f /f\n"
        )
    )
    member = workshop.files(image)["f"]
    assert (member.uid, member.gid, member.mode) == (12, 34, 0o4755)


def test_copy_from_image(workshop: Workshop) -> None:
    image = built(workshop.build("FROM scratch\nCOPY --from=base /bin/busybox /b\n"))
    assert set(workshop.files(image)) - {"."} == {"b"}


def test_independent_stages_run_at_the_same_time(workshop: Workshop) -> None:
    text = (
        "FROM base AS a\nRUN sleep 1; date +%s.%N > /t\n"
        "FROM base AS b\nRUN sleep 1; date +%s.%N > /t\n"
        "FROM base\nCOPY --from=a /t /a\nCOPY --from=b /t /b\n"
    )
    workshop.build(text)
    starts = {}
    ends = {}
    for event in workshop.seen.events:
        if isinstance(event, StepFinished):
            ends[event.id] = event.at
            starts[event.id] = event.at - event.duration_s
    runs = [step for step, end in ends.items() if end - starts[step] >= 1]
    assert len(runs) == 2
    assert max(starts[step] for step in runs) < min(ends[step] for step in runs)


def test_unused_stage_is_not_built(workshop: Workshop) -> None:
    assert workshop.counts("FROM base AS unused\nRUN false\nFROM base\nRUN true\n") == (1, 0)


def test_target_stops_at_its_stage(workshop: Workshop) -> None:
    image = built(workshop.build("FROM base AS one\nRUN echo 1 > /1\nFROM one AS two\nRUN false\n", target="one"))
    assert "1" in workshop.files(image)


def test_onbuild_runs_in_the_child(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("x")
    parent = Output("image", "", (Reference.parse("parent:latest"),))
    workshop.build("FROM base\nONBUILD COPY f /from-trigger\nONBUILD RUN echo ran > /ran\n", outputs=(parent,))
    image = built(workshop.build("FROM parent\nRUN cat /ran\n"))
    assert {"from-trigger", "ran"} <= set(workshop.files(image))
    assert image.config.config.on_build == ()


def test_environment_user_and_directory_of_a_run(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nENV A=1\nARG B=2\nRUN echo 'app:x:1000:1000::/home/app:/bin/sh' >> /etc/passwd\n"
        "WORKDIR /w\nUSER app\nRUN echo $A $B $HOME $(id -u) $(id -g) $(pwd) $0\n"
    )
    assert workshop.seen.output() == "1 2 /home/app 1000 1000 /w /bin/sh\n"


def test_workdir_belongs_to_the_user(workshop: Workshop) -> None:
    image = built(workshop.build("FROM base\nUSER 12:34\nWORKDIR /a/b\n"))
    files = workshop.files(image)
    assert [(files[name].uid, files[name].gid, files[name].mode) for name in ("a", "a/b")] == [(12, 34, 0o755)] * 2


def test_run_heredoc_forms(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN <<A\necho script\nA\nRUN cat <<B\ninput\nB\nRUN <<C\n#!/bin/busybox sh\necho shebang $0\nC\n"
    )
    assert workshop.seen.output() == "script\ninput\nshebang /dev/pipes/C\n"


def test_run_leaves_no_mount_point_behind(workshop: Workshop, busybox_tar: Path) -> None:
    image = built(
        workshop.build('FROM scratch\nCOPY --from=base /bin/busybox /bin/busybox\nRUN ["/bin/busybox","true"]\n')
    )
    assert set(workshop.files(image)) - {"."} == {"bin", "bin/busybox"}


RUN_LAST = "RUN rm /usr/bin/wc && chmod 700 /usr/sbin && mkdir -p /made && touch /made/it\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (f"FROM base\n{RUN_LAST}", [1, 2]),
        (f"FROM base AS a\nRUN mkdir /a\nFROM base\nRUN mkdir /b\nCOPY --from=a /a /c\n{RUN_LAST}", [4, 5]),
        (f"FROM base AS a\nRUN mkdir /a\nFROM base\nRUN --mount=from=a,target=/m {RUN_LAST[4:]}", [3]),
        (f"FROM base\n{RUN_LAST}WORKDIR /w\n", [3]),
    ],
    ids=["one stage", "after other stages", "with a mount", "not the last"],
)
def test_launcher_may_end_before_the_last_layer_is_written(workshop: Workshop, text: str, written: list[int]) -> None:
    layers: list[int] = []

    def solved() -> None:
        workshop.launcher.close()
        layers.append(workshop.store.database.one("SELECT count(*) FROM layers")[0])

    image = built(workshop.build(text, solved=solved))
    files = workshop.files(image)
    assert layers[: len(written)] == written
    assert set(layers[len(written) :]) <= {written[-1]}
    assert "usr/bin/wc" not in files
    assert "made/it" in files
    assert files["usr/sbin"].mode == 0o700
    assert "usr/sbin/chroot" in files


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ({}, False),
        ({"outputs": (Output("image", "", (NAME,), push=True),)}, True),
        ({"outputs": (Output("oci", "x.tar"),)}, True),
        ({"source_date_epoch": 0}, True),
        ({"attest": Attestations(sbom=True)}, True),
    ],
    ids=["kept", "pushed", "archive", "clamped", "attested"],
)
def test_request_tells_whether_the_build_reads_its_layers(
    workshop: Workshop, options: dict[str, Any], reads: bool
) -> None:
    with Context.open_directory(str(workshop.context)) as context:
        options = {"outputs": (Output("image", "", (NAME,)),), **options}
        assert BuildRequest(b"FROM base\n", "Dockerfile", context, **options).reads_layers is reads


def test_only_layers_of_runs_leave_the_page_cache(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    writer = workshop.store.layers.writer

    def noted(*, sync: bool = True, cached: bool = True) -> LayerWriter:
        asked.append(cached)
        return writer(sync=sync, cached=cached)

    monkeypatch.setattr(workshop.store.layers, "writer", noted)
    workshop.build("FROM base\nRUN mkdir /d\nCOPY . /c\nRUN mkdir /e\n")
    assert sorted(asked) == [False, False, True]


def test_file_that_no_layer_can_hold_is_a_warning(workshop: Workshop) -> None:
    image = built(workshop.build("FROM base\nRUN touch /.wh.odd /ok\n"))
    assert "ok" in workshop.files(image)
    warnings = [event for event in workshop.seen.events if isinstance(event, Warned)]
    assert [(event.line, "/.wh.odd is not in the image" in event.message) for event in warnings] == [(2, True)]


def test_failed_run_tells_place_code_and_output(workshop: Workshop) -> None:
    with pytest.raises(StepFailedError) as caught:
        workshop.build("FROM base\n\nRUN echo before; \\\n    exit 3\nRUN true\n")
    error = caught.value
    assert (error.exit_code, error.output_tail) == (3, b"before\n")
    assert (error.lines.first, error.lines.last) == (3, 4)
    shown = error.render()
    assert "Dockerfile:3:1: " in shown
    assert "exit code: 3" in shown
    assert ">>> RUN echo before; \\" in shown
    assert workshop.seen.outcomes()[-1] == "failed"


def test_steps_before_the_failed_one_stay_cached(workshop: Workshop) -> None:
    with pytest.raises(StepFailedError):
        workshop.build("FROM base\nRUN echo 1 > /1\nRUN false\n")
    assert workshop.counts("FROM base\nRUN echo 1 > /1\nRUN true\n") == (1, 1)


def test_failed_stage_stops_the_others(workshop: Workshop) -> None:
    began = time.monotonic()
    with pytest.raises(StepFailedError, match="exit code: 9"):
        workshop.build(
            "FROM base AS slow\nRUN sleep 60; echo x > /x\nFROM base\nRUN sleep 0.5; exit 9\nCOPY --from=slow /x /\n"
        )
    assert time.monotonic() - began < 30
    assert "cancelled" in workshop.seen.outcomes()


def test_cancel_ends_the_running_step(workshop: Workshop) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(1.0, cancelled.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(BuildCancelledError):
        workshop.build("FROM base\nRUN sleep 60\n", cancelled=cancelled)
    timer.join()
    assert time.monotonic() - began < 30
    assert workshop.seen.outcomes()[-1] == "cancelled"


def test_step_that_closes_its_output_is_still_cancelled(workshop: Workshop) -> None:
    """Output that has ended says nothing about the command: it may go on, and has to be ended like any other."""
    cancelled = threading.Event()
    timer = threading.Timer(1.0, cancelled.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(BuildCancelledError):
        workshop.build("FROM base\nRUN exec >&- 2>&-; sleep 100\n", cancelled=cancelled)
    timer.join()
    assert time.monotonic() - began < 60


def test_missing_source_names_the_file(workshop: Workshop) -> None:
    (workshop.context / "requirements.txt").write_text("")
    with pytest.raises(StepError, match=r"requirments\.txt") as caught:
        workshop.build("FROM base\nCOPY requirments.txt /\n")
    assert "requirements.txt" in (caught.value.hint or "")
    assert "Dockerfile:2:6: " in caught.value.render()


def test_unknown_base_names_the_line(workshop: Workshop) -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:1:6: .*nowhere") as caught:
        workshop.build("FROM nowhere\n")
    assert caught.value.hint


def test_unused_build_arg_is_a_warning(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN true\n", build_args={"LOST": "1"})
    assert [event.message for event in workshop.seen.events if isinstance(event, Warned)] == [
        "build argument LOST was not used: no ARG LOST in the stages built"
    ]


def test_metadata_only_image(workshop: Workshop) -> None:
    image = built(workshop.build("FROM scratch\nLABEL a=b\n"))
    assert image.diff_ids == ()


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_file_output_is_not_kept_in_the_store(
    kind: Literal["oci", "docker", "tar"], workshop: Workshop, tmp_path: Path
) -> None:
    before = len(workshop.store.images.list())
    dest = tmp_path / "out.tar"
    result = workshop.build("FROM base\nRUN echo x > /x\n", outputs=(Output(kind, str(dest)),))
    assert result.image is None
    with tarfile.open(dest) as archive:
        names = archive.getnames()
    assert ("x" if kind == "tar" else "index.json") in names
    assert len(workshop.store.images.list()) == before


def test_local_output_is_a_directory_of_files(workshop: Workshop, tmp_path: Path) -> None:
    workshop.build(
        "FROM scratch\nCOPY --from=base /bin/busybox /b/x\n", outputs=(Output("local", str(tmp_path / "o")),)
    )
    assert (tmp_path / "o/b/x").stat().st_size > 100_000


def test_several_outputs_of_one_build(workshop: Workshop, tmp_path: Path) -> None:
    outputs = (
        Output("image", "", (NAME,)),
        Output("tar", str(tmp_path / "t.tar")),
        Output("local", str(tmp_path / "l")),
    )
    image = built(workshop.build("FROM base\nRUN echo x > /x\n", outputs=outputs))
    assert image.names == (NAME,)
    assert (tmp_path / "l/x").read_text() == "x\n"


def test_source_date_epoch_gives_the_same_image_from_two_stores(tmp_path: Path, busybox_tar: Path) -> None:
    def once(name: str) -> BuildResult:
        shop = Workshop(tmp_path / name, tmp_path / f"{name}-context", busybox_tar)
        (shop.context / "f").write_text("same")
        try:
            return shop.build("FROM scratch\nCOPY f /d/\nWORKDIR /w\n", source_date_epoch=1_700_000_000)
        finally:
            shop.close()

    assert once("one").config_digest == once("two").config_digest


def test_builds_side_by_side_share_one_store(workshop: Workshop) -> None:
    results: list[BuildResult] = []
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            with Context.open_directory(str(workshop.context)) as context:
                text = f"FROM base\nRUN echo shared > /s\nRUN echo {number % 3} > /n\n"
                request = BuildRequest(text.encode(), "Dockerfile", context)
                results.append(build(request, BuildTools(workshop.store, workshop.launcher)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(results) == 6
    assert {workshop.read(built(result), "n") for result in results} == {"0\n", "1\n", "2\n"}
