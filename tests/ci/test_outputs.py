"""The layer of a job's outputs. The upper directories of these tests are written by the kernel's overlayfs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.epoch import BEGINNING
from ci.model import Output
from ci.workspace import outputs
from ci.workspace.errors import OutputsError
from ci.workspace.outputs import write_outputs
from core.cancellation import asking
from core.kernel import openat2
from dockerfile_grammar import IgnorePatterns
from images.apply import apply_layer
from images.tarwriter import TarWriter
from images.trees import remove_tree
from tests.toolkit.overlays import OverlayStep

pytestmark = pytest.mark.usefixtures("privileged")

Seen = dict[str, tuple[str, ...]]


class Job(OverlayStep):
    """A job whose upper directory is asked for outputs."""

    def tar(self, *outputs: str | Output, mounted: tuple[str, ...] = ()) -> bytes:
        sink = io.BytesIO()
        writer = TarWriter(sink)
        entries = [output if isinstance(output, Output) else Output(output) for output in outputs]
        fd = os.open(self.lower, os.O_RDONLY | os.O_DIRECTORY)
        try:
            descriptors = len(os.listdir("/proc/self/fd"))
            write_outputs(str(self.upper), lambda: fd, writer, entries, mounted=mounted)
            assert len(os.listdir("/proc/self/fd")) == descriptors
        finally:
            os.close(fd)
        writer.close()
        return sink.getvalue()

    def members(self, *outputs: str | Output, mounted: tuple[str, ...] = ()) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.tar(*outputs, mounted=mounted))) as archive:
            members = archive.getmembers()
        assert len({member.name for member in members}) == len(members)
        return {member.name: member for member in members}

    def names(self, *outputs: str | Output, mounted: tuple[str, ...] = ()) -> list[str]:
        return list(self.members(*outputs, mounted=mounted))

    def merged(self) -> Seen:
        """What the job saw at its end."""
        found: list[Seen] = []
        place = self.folder / "seen"

        def look() -> None:
            place_now = tree(Path("."))
            (Path(os.environ["SEEN"])).write_text(repr(place_now))

        place.touch()
        place.chmod(0o666)
        os.environ["SEEN"] = str(place)
        self.run(look)
        found.append(eval(place.read_text()))
        return found[0]

    def later(self, layer: bytes) -> Seen:
        """What a later job sees: the layer on what this job began with."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        subprocess.run(["cp", "-a", f"{self.lower}/.", place], check=True)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            apply_layer(io.BytesIO(layer), fd, overlay=False)
        finally:
            os.close(fd)
        return tree(place)


def tree(root: Path) -> Seen:
    """Kind, content or target, and permissions of all that lies below."""
    seen: Seen = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            mode = path.lstat().st_mode & 0o777
            if path.is_symlink():
                what = ("link", os.readlink(path))
            elif path.is_dir():
                what = ("directory", "")
            else:
                what = (f"{mode:o}", path.read_text())
            seen[os.path.relpath(path, root)] = what
    return seen


@pytest.fixture
def job() -> Iterator[Job]:
    # Not tmp_path: nobody but root may enter that, and the container's root is nobody here.
    with tempfile.TemporaryDirectory(prefix="shiplap-test-") as folder:
        os.chmod(folder, 0o755)
        yield Job(Path(folder))


def write(*paths: str, text: str = "new") -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)


def below(job: Job, *paths: str) -> None:
    for path in paths:
        (job.lower / path).parent.mkdir(parents=True, exist_ok=True)
        (job.lower / path).write_text("old")


def test_what_a_pattern_names_is_an_output_and_nothing_else(job: Job) -> None:
    below(job, "src/a.py", "README")
    job.run(lambda: write("dist/app", "dist/lib/x.so", "other/y", "src/a.py", "log.txt"))
    assert job.names("dist") == ["dist", "dist/app", "dist/lib", "dist/lib/x.so"]
    assert job.names("dist/**") == job.names("dist")
    assert job.names("*.txt", "dist/*", "!dist/app") == ["dist", "dist/lib", "dist/lib/x.so", "log.txt"]
    assert job.names("!dist", "!src") == ["log.txt", "other", "other/y"]
    assert job.names("**/*.py") == ["src", "src/a.py"]


def test_times_and_owners_are_the_workspaces_and_set_user_id_does_not_travel(job: Job) -> None:
    def action() -> None:
        write("d/f")
        os.chown("d/f", 1000, 50)
        os.chmod("d/f", 0o6755)
        os.setxattr("d/f", "user.note", b"x")
        os.chmod("d", 0o2770)
        os.symlink("f", "d/link")

    job.run(action)
    members = job.members("d")
    assert [(m.uid, m.gid, m.mtime) for m in members.values()] == [(0, 0, BEGINNING)] * 3
    assert (members["d"].mode, members["d/f"].mode) == (0o770, 0o755)
    assert not any(member.pax_headers for member in members.values())


def test_the_same_content_is_the_same_layer_whenever_it_is_made(job: Job) -> None:
    job.run(lambda: write("a/b", "c"))
    first = job.tar("**")
    time.sleep(0.01)

    def again() -> None:
        shutil.rmtree("a")
        write("a/b", "c")

    job.run(again)
    assert job.tar("**") == first


def test_parents_have_the_mode_that_layers_give_them_unless_they_are_outputs(job: Job) -> None:
    below(job, "d/sub/old")

    def action() -> None:
        write("d/sub/new")
        os.chmod("d", 0o700)
        os.chmod("d/sub", 0o711)

    job.run(action)
    modes = {name: member.mode for name, member in job.members("d/sub").items()}
    assert modes == {"d": 0o755, "d/sub": 0o711, "d/sub/new": 0o644}


def test_a_directory_that_was_only_copied_up_is_no_output(job: Job) -> None:
    below(job, "d/kept")

    def action() -> None:
        write("d/temporary")
        os.unlink("d/temporary")

    job.run(action)
    assert job.names("d") == []


def test_removals_are_told_name_by_name(job: Job) -> None:
    below(job, "d/a", "d/b", "d/sub/x", "e/one", "e/two", "e/deep/a", "e/deep/b")

    def action() -> None:
        os.unlink("d/a")
        shutil.rmtree("d/sub")
        shutil.rmtree("e")
        write("e/two", "e/deep/b", "e/three")

    job.run(action)
    assert job.names("d", "e") == [
        "d", "d/.wh.a", "d/.wh.sub",
        "e", "e/.wh.one", "e/deep", "e/deep/.wh.a", "e/deep/b", "e/three", "e/two",
    ]  # fmt: skip
    assert job.later(job.tar("d", "e")) == job.merged()


def test_of_a_directory_that_is_gone_only_what_a_pattern_names_is_removed(job: Job) -> None:
    below(job, "d/a.js", "d/a.css", "d/sub/b.js", "d/keep/x")

    job.run(lambda: shutil.rmtree("d"))
    assert job.names(Output("d/**/*.js", optional=True)) == ["d", "d/.wh.a.js", "d/sub", "d/sub/.wh.b.js"]
    assert job.names(Output("d", optional=True), "!d/keep") == ["d", "d/.wh.a.css", "d/.wh.a.js", "d/.wh.sub"]
    assert job.names(Output("d", optional=True)) == [".wh.d"]
    assert job.names(Output("d", optional=True), "!d/keep/y") == [".wh.d"]  # there is no such file
    assert job.names(Output("d", optional=True), "!d/keep/x") == ["d", "d/.wh.a.css", "d/.wh.a.js", "d/.wh.sub"]
    assert job.names(Output("d/**", optional=True)) == ["d", "d/.wh.a.css", "d/.wh.a.js", "d/.wh.keep", "d/.wh.sub"]


def test_what_is_gone_and_no_pattern_reaches_is_not_looked_through(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    below(job, "d/a.js", "d/keep/x", "large/sub/file")

    def action() -> None:
        shutil.rmtree("d")
        shutil.rmtree("large")

    job.run(action)
    looked: list[bytes] = []

    def noted(fd: int, path: bytes, flags: int, *, resolve: int) -> int:
        looked.append(path)
        return openat2(fd, path, flags, resolve=resolve)

    monkeypatch.setattr(outputs, "openat2", noted)
    assert job.names(Output("d/*.js", optional=True)) == ["d", "d/.wh.a.js"]
    assert looked == [b"d"]


def test_a_file_in_the_place_of_a_directory_removes_what_a_pattern_names_of_it(job: Job) -> None:
    below(job, "d/a.js", "d/a.css")

    def action() -> None:
        shutil.rmtree("d")
        write("d")

    job.run(action)
    assert job.names(Output("d/*.js", optional=True)) == ["d", "d/.wh.a.js"]
    assert job.names("d") == ["d"]
    assert job.members("d")["d"].isfile()


def test_what_was_made_and_removed_again_is_nothing(job: Job) -> None:
    def action() -> None:
        write("d/x", "d/y")
        os.unlink("d/x")

    job.run(action)
    assert job.names("d") == ["d", "d/y"]


def test_outputs_go_into_another_directory_below_what_the_pattern_says(job: Job) -> None:
    below(job, "dist/old")

    def action() -> None:
        write("reports/a.xml", "reports/sub/b.xml", "dist/app", "dist/lib/x", "binary")
        os.unlink("dist/old")

    job.run(action)
    assert job.names(Output("reports/*", into="all/3.11")) == [
        "all", "all/3.11", "all/3.11/a.xml", "all/3.11/sub", "all/3.11/sub/b.xml",
    ]  # fmt: skip
    assert job.names(Output("reports/**/*.xml", into="r")) == ["r", "r/a.xml", "r/sub", "r/sub/b.xml"]
    assert job.names(Output("dist", into="x")) == ["x", "x/app", "x/lib", "x/lib/x"]
    assert job.names(Output("dist/**", into="x")) == job.names(Output("dist", into="x"))
    assert job.names(Output("binary", into="bin/linux/")) == ["bin", "bin/linux", "bin/linux/binary"]
    assert job.names(Output("**/*.xml", into="r")) == [
        "r",
        "r/reports",
        "r/reports/a.xml",
        "r/reports/sub",
        "r/reports/sub/b.xml",
    ]


def test_of_several_entries_that_fit_the_last_says_where_a_file_goes(job: Job) -> None:
    job.run(lambda: write("dist/app", "dist/app.map", "dist/skipped"))
    assert job.names("dist", Output("dist/*.map", into="maps"), "!dist/skipped") == [
        "dist",
        "dist/app",
        "maps",
        "maps/app.map",
    ]
    assert job.names(Output("dist/*.map", into="maps"), "dist") == ["dist", "dist/app", "dist/app.map", "dist/skipped"]


def test_two_outputs_cannot_be_one_path(job: Job) -> None:
    job.run(lambda: write("a/x", "b/x", "c/x/y"))
    with pytest.raises(OutputsError, match="two outputs would be out/x: a/x and b/x"):
        job.tar(Output("a", into="out"), Output("b", into="out"))
    with pytest.raises(OutputsError, match="two outputs would be out/x: a/x and c/x"):
        job.tar(Output("a", into="out"), Output("c", into="out"))
    with pytest.raises(OutputsError, match="two outputs would be a/x: a/x and b/x"):
        job.tar("a", Output("b", into="a"))


def test_files_of_two_outputs_share_a_directory(job: Job) -> None:
    job.run(lambda: write("a/d/x", "b/d/y"))
    assert job.names(Output("a", into="o"), Output("b", into="o")) == ["o", "o/d", "o/d/x", "o/d/y"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (Output("dist/app"), "there is no file for the output dist/app"),
        (Output("*.xml"), r"there is no file for the output \*.xml"),
        (Output("empty"), "there is no file for the output empty"),
        (Output("gone"), "there is no file for the output gone"),
        (Output("emptied"), "there is no file for the output emptied"),
        (Output("replaced/x"), "there is no file for the output replaced/x"),
    ],
)
def test_an_output_without_a_file_is_an_error_unless_it_is_optional(job: Job, output: Output, message: str) -> None:
    below(job, "gone", "emptied/x", "replaced/x")

    def action() -> None:
        write("other")
        os.mkdir("empty")
        os.unlink("gone")
        shutil.rmtree("emptied")
        os.mkdir("emptied")
        shutil.rmtree("replaced")
        write("replaced")

    job.run(action)
    with pytest.raises(OutputsError, match=message):
        job.tar(output, "other")
    job.tar(Output(output.path, optional=True), "other")


def test_a_file_that_was_there_before_satisfies_an_output_and_is_not_written(job: Job) -> None:
    below(job, "docs/a.md", "docs/sub/b.md")
    job.run(lambda: write("docs/new"))
    assert job.names("docs/**/*.md", "docs/sub", "docs/new") == ["docs", "docs/new"]


def test_links_stay_links_and_lead_nowhere(job: Job) -> None:
    below(job, "real/f")

    def action() -> None:
        write("dist/f")
        os.symlink("/etc", "dist/etc")
        os.symlink("dist", "way")
        os.symlink("../../..", "out")

    job.run(action)
    members = job.members("dist", "out")
    assert [(name, m.linkname) for name, m in members.items() if m.issym()] == [
        ("dist/etc", "/etc"),
        ("out", "../../.."),
    ]
    for output in ("way/f", "way/**", "out/etc/passwd", "dist/etc/passwd"):
        with pytest.raises(
            OutputsError, match=f"the output {output.replace('*', '.')} leads through .*, which is a link"
        ):
            job.tar(Output(output, optional=True))
    with pytest.raises(OutputsError, match="leads through way, which is a link"):
        job.tar(Output("dist/f", into="way/x"))
    assert job.names("**/f", "!way/f") == ["dist", "dist/f"]


def test_a_link_in_a_layer_below_is_no_way_either(job: Job) -> None:
    os.symlink("/etc", job.lower / "etc")
    job.run(lambda: write("f"))
    with pytest.raises(OutputsError, match="leads through etc"):
        job.tar("f", "etc/passwd")


def test_into_a_file_or_out_of_the_workspace_goes_nothing(job: Job) -> None:
    job.run(lambda: write("f", "file"))
    with pytest.raises(OutputsError, match="outputs cannot go into file: file is no directory"):
        job.tar(Output("f", into="file"))
    for into in ("../x", "/etc", "a/../../b", "a/.wh.b"):
        with pytest.raises(OutputsError, match="the output f cannot go into"):
            job.tar(Output("f", into=into))


def test_what_no_layer_holds_is_an_error_that_names_it_where_a_pattern_does(job: Job) -> None:
    def action() -> None:
        write("ok/f", "wh/.wh.x", "whd/.wh.d/f")
        os.mkdir("fifo")
        os.mkfifo("fifo/p")
        os.mkdir("sock")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
            end.bind("sock/s")

    job.run(action)
    assert job.names("ok") == ["ok", "ok/f"]
    for output, message in (
        ("fifo", "fifo/p cannot be an output: it is a FIFO"),
        ("sock", "sock/s cannot be an output: it is a socket"),
        ("wh", r"wh/\.wh\.x cannot be an output: in layers, names that begin with \.wh\. mean deletions"),
        ("whd/*/f", r"whd/\.wh\.d cannot be an output"),
        ("**", "cannot be an output"),
    ):
        with pytest.raises(OutputsError, match=message):
            job.tar(output)
    assert job.names(Output("whd/*/x*", optional=True), "ok") == ["ok", "ok/f"]


def test_devices_are_refused(job: Job) -> None:
    os.mkdir(job.upper / "dev")
    os.mknod(job.upper / "dev/null", 0o20666, os.makedev(1, 3))
    with pytest.raises(OutputsError, match="dev/null cannot be an output: it is a device"):
        job.tar("dev")


def test_names_that_are_no_utf_8_are_outputs_and_are_removed(job: Job) -> None:
    with open(os.fsencode(job.lower) + b"/\xff\xfe", "wb"):
        pass

    def action() -> None:
        os.unlink(b"\xff\xfe")
        os.mkdir(b"d\xe9")
        with open(b"d\xe9/f\n\xe8", "wb"):
            pass

    job.run(action)
    found = job.names("d*", Output("**", optional=True))
    assert [os.fsencode(name) for name in found] == [b"d\xe9", b"d\xe9/f\n\xe8", b".wh.\xff\xfe"]


def test_hard_links_stay_together_within_the_outputs(job: Job) -> None:
    def action() -> None:
        write("a", "out/x")
        os.link("a", "out/b")
        os.link("a", "out/c")

    job.run(action)
    members = job.members("out")
    assert members["out/b"].isfile()
    assert (members["out/c"].islnk(), members["out/c"].linkname) == (True, "out/b")
    moved = job.members(Output("out", into="n"))
    assert (moved["n/c"].islnk(), moved["n/c"].linkname) == (True, "n/b")


def test_what_was_mounted_in_the_workspace_is_no_output(job: Job) -> None:
    def action() -> None:
        write(".git/HEAD", "f", "secret")

    job.run(action)
    assert job.names("**", mounted=(".git", "secret")) == ["f"]


def test_a_path_that_no_layer_can_have_is_an_error(job: Job) -> None:
    fd = os.open(job.upper, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=fd)
        deeper = os.open("n" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    with pytest.raises(OutputsError, match=r"has a path of \d+ bytes; 4095 are possible"):
        job.tar("**")


def test_what_lies_too_deep_and_no_pattern_names_is_passed_by(job: Job) -> None:
    write(str(job.upper / "a/x"))
    fd = os.open(job.upper, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("dd", dir_fd=fd)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert job.names("**/x") == ["a", "a/x"]
    with contextlib.suppress(OutputsError):
        job.tar("dd")
    remove_tree(str(job.upper / "dd"))  # pytest's own way recurses


def test_outputs_of_more_files_than_any_job_means_are_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run(lambda: write(*(f"d/{number}" for number in range(20))))
    monkeypatch.setattr("ci.workspace.outputs._MOST_ENTRIES", 21)
    assert len(job.names("d")) == 21
    for name, most in (("_MOST_ENTRIES", 20), ("_MOST_PATH_BYTES", 70)):
        monkeypatch.setattr(f"ci.workspace.outputs.{name}", most)
        with pytest.raises(OutputsError, match=r"the outputs have more than [\d,]+ files, or too long paths"):
            job.tar("d")
        monkeypatch.undo()


def test_it_ends_when_it_is_asked_to(job: Job) -> None:
    job.run(lambda: write(*(f"d/{number}" for number in range(300))))
    asked = 0

    def question() -> None:
        nonlocal asked
        asked += 1
        if asked > 10:
            raise KeyboardInterrupt

    with asking(question), pytest.raises(KeyboardInterrupt):
        job.tar("d")
    assert asked == 11


NAMES = st.sampled_from(["a", "b", "c.js", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.lists(st.tuples(PATHS, st.sampled_from(["file", "directory", "link"])), max_size=8)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "mkdir", "link", "anew", "chmod", "move"]), PATHS, PATHS), max_size=8
)
PATTERNS = st.lists(
    st.sampled_from(["a", "b", "a/b", "**/*.js", "*/d", "a/**", "!a/b", "!**/d", "**", "!b", "b/*/c.js"]),
    min_size=1, max_size=4,
).filter(lambda patterns: not all(pattern.startswith("!") for pattern in patterns))  # fmt: skip


def _plant(root: Path, entries: list[tuple[str, str]]) -> None:
    for path, kind in entries:
        with contextlib.suppress(OSError):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                (root / path).write_text(f"old {path}")
            elif kind == "directory":
                (root / path).mkdir()
            else:
                os.symlink(f"to-{path}", root / path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _perform(operations: list[tuple[str, str, str]]) -> None:
    for number, (what, path, other) in enumerate(operations):
        with contextlib.suppress(OSError, shutil.Error):
            if what in ("write", "link", "anew"):
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            if what == "write":
                Path(path).write_text(f"new {number}")
            elif what == "remove":
                _remove(path)
            elif what == "mkdir":
                os.makedirs(path)
            elif what == "link":
                os.symlink(f"to-{number}", path)
            elif what == "anew":
                _remove(path)
                os.mkdir(path)
                Path(path, "b").write_text(f"anew {number}")
            elif what == "chmod":
                os.chmod(path, 0o700)
            else:
                shutil.move(path, other)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(lower=TREES, operations=OPERATIONS, patterns=PATTERNS)
def test_outputs_on_what_was_there_are_what_the_job_saw_as_far_as_patterns_name_it(
    lower: list[tuple[str, str]], operations: list[tuple[str, str, str]], patterns: list[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="shiplap-test-") as folder:
        os.chmod(folder, 0o755)
        job = Job(Path(folder))
        _plant(job.lower, lower)
        before = tree(job.lower)
        job.run(lambda: _perform(operations))
        seen = job.merged()
        try:
            layer = job.tar(*(Output(pattern, optional=True) for pattern in patterns))
        except OutputsError:  # a pattern leads through a link
            assert any(what == "link" for what, _ in seen.values())
            return
        after = job.later(layer)
        meant = IgnorePatterns.of(["**", *patterns] if patterns[0].startswith("!") else patterns)
        named = {path for path in {*before, *seen, *after} if meant.matches(path)}
        assert {path: after.get(path) for path in named} == {path: seen.get(path) for path in named}
        # What no pattern names is as it was, but for what lies in the way of an output or belongs to its path.
        for path in {*before, *after} - named:
            if before.get(path) != after.get(path):
                assert any(other.startswith(f"{path}/") for other in named & after.keys()) or any(
                    path.startswith(f"{other}/") for other in named & seen.keys()
                ), path
