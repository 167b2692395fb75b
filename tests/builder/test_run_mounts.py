"""RUN --mount, every type with its options, in real containers."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuildCancelledError, UnsupportedError
from builder.running.failures import StepError, StepFailedError
from builder.running.masking import OutputMasker, secret_forms
from core.events import StepOutput
from dockerfile_grammar import DockerfileError
from tests.builder.test_build import Workshop, built

pytestmark = pytest.mark.usefixtures("privileged")

SECRET = b"tr0ub4dor&3-correct"


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


def _everything_below(root: Path) -> Iterator[bytes]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path.read_bytes()


# tmpfs


def test_tmpfs_is_empty_limited_and_gone_afterwards(workshop: Workshop) -> None:
    image = built(
        workshop.build(
            "FROM base\nWORKDIR /w\nRUN --mount=type=tmpfs,target=t,size=64k "
            "ls -A t | wc -l && echo x > /w/t/f && df -k /w/t | tail -n1 && echo y > made\n"
        )
    )
    said = workshop.seen.output().split()
    assert said[0] == "0"
    assert said[2] == "64"
    assert set(workshop.files(image)) >= {"w/made"}
    assert not [name for name in workshop.files(image) if name.startswith("w/t")]


# cache


def test_cache_persists_between_builds_and_stays_out_of_the_image(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=cache,target=/c echo {} >> /c/log && cat /c/log\n"
    workshop.build(text.format(1))
    image = built(workshop.build(text.format(2)))
    assert workshop.seen.output() == "1\n2\n"
    assert not [name for name in workshop.files(image) if name.startswith("c/") or name == "c"]


def test_content_of_a_cache_is_not_part_of_the_cache_key(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=cache,target=/c echo x >> /c/log\n"
    assert workshop.counts(text) == (1, 0)
    workshop.build("FROM base\nRUN --mount=type=cache,target=/c echo y >> /c/log\n")
    assert workshop.counts(text) == (0, 1)


def test_target_and_id_of_a_cache_are_part_of_the_cache_key(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=cache,{} true\n"
    assert workshop.counts(text.format("target=/a")) == (1, 0)
    assert workshop.counts(text.format("target=/b")) == (1, 0)
    assert workshop.counts(text.format("target=/a,id=x")) == (1, 0)
    assert workshop.counts(text.format("target=/a,id=x,sharing=locked")) == (0, 1)


def test_caches_are_told_apart_by_id(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN --mount=type=cache,id=one,target=/a echo 1 > /a/f\n")
    workshop.build(
        "FROM base\nRUN --mount=type=cache,id=one,target=/x --mount=type=cache,id=two,target=/y "
        "cat /x/f; ls /y | wc -l\n"
    )
    assert workshop.seen.output().split() == ["1", "0"]


def test_cache_mounts_have_namespaces(workshop: Workshop) -> None:
    plant = "FROM base\nRUN --mount=type=cache,target=/c echo evil > /c/f\n"
    use = "FROM base\nRUN --mount=type=cache,target=/c cat /c/f 2>/dev/null || echo nothing\n"
    elsewhere = {"BUILDKIT_CACHE_MOUNT_NS": "untrusted"}
    workshop.build(plant, build_args=elsewhere)
    assert workshop.counts(use, build_args=elsewhere) == (1, 0)
    workshop.build(use)  # neither the directory nor the step's record is shared
    assert workshop.seen.output() == "nothing\n"


def test_id_of_a_cache_is_its_target_by_default(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN --mount=type=cache,target=/a/./b/ echo 1 > /a/b/f\n")
    workshop.build("FROM base\nRUN --mount=type=cache,target=/x,id=/a/b cat /x/f\n")
    assert workshop.seen.output() == "1\n"


def test_cache_has_the_mode_and_owner_it_was_made_with(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN --mount=type=cache,target=/c,mode=0700,uid=12,gid=34 stat -c %a:%u:%g /c\n"
        "RUN --mount=type=cache,target=/d stat -c %a:%u:%g /d\n"
    )
    assert workshop.seen.output().split() == ["700:12:34", "755:0:0"]


def test_cache_of_another_owner_or_source_is_another_cache(workshop: Workshop) -> None:
    """As in BuildKit: what root left is not in the way of a user who asks for a cache of their own."""
    step = "RUN --mount=type=cache,id=one,target=/c{} ls -A /c; touch /c/{} && stat -c %u:%a /c\n"
    asked = ("", ",uid=1000", ",uid=1000,gid=1000", ",mode=0700", ",from=base,source=/etc")
    for number, options in enumerate(asked):
        workshop.build("FROM base\n" + step.format(options, f"made-{number}"))
        assert "made-" not in workshop.seen.output()
    workshop.build("FROM base\nUSER 1000\n" + step.format(",uid=1000", "again"))  # also in another build
    assert workshop.seen.output().split() == ["made-1", "1000:755"]
    shown = {mount.name for mount in workshop.store.cache_mounts.list()}
    assert {"one", "one (1000:0 0755)", "one (1000:1000 0755)", "one (0:0 0700)", "one (begun from files)"} == shown


@pytest.mark.parametrize(("owner", "first"), [((0, 0), ""), ((1000, 0), ",uid=1000")])
def test_cache_that_an_earlier_version_left_is_its_first_owners(
    workshop: Workshop, owner: tuple[int, int], first: str
) -> None:
    key = hashlib.sha256(b"pip").hexdigest()[:32]
    left = workshop.store.root / "cache-mounts" / f"{key}-0"
    left.mkdir(parents=True)
    (left / "wheel").touch()
    os.chown(left, *owner)
    left.with_name(f"{left.name}.lock").write_text("pip")
    step = "FROM base\nRUN --mount=type=cache,id=pip,target=/c{} ls -A /c; touch /c/new\n"
    workshop.build(step.format(",uid=7"))
    assert workshop.seen.output() == ""
    workshop.build(step.format(first))
    assert workshop.seen.output().split() == ["wheel"]
    workshop.build(step.format(first) + "RUN true\n", no_cache=True)
    assert workshop.seen.output().split() == ["new", "wheel"]


def test_cache_can_be_read_only(workshop: Workshop) -> None:
    with pytest.raises(StepFailedError, match="exit code"):
        workshop.build("FROM base\nRUN --mount=type=cache,target=/c,ro touch /c/f\n")
    assert "Read-only file system" in workshop.seen.output()


def test_cache_begins_with_what_it_is_from(workshop: Workshop) -> None:
    text = (
        "FROM base AS seed\nRUN mkdir -p /s/d && echo seed > /s/d/f && chown 7:8 /s/d/f && ln -s f /s/d/l\n"
        "FROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/s "
        "cat /c/d/l && stat -c %u:%g /c/d/f && echo {} >> /c/d/f\n"
    )
    workshop.build(text.format("a"))
    assert workshop.seen.output().split() == ["seed", "7:8"]
    workshop.build(text.format("b"))
    assert workshop.seen.output().split() == ["seed", "a", "7:8"]


def test_prune_removes_caches_that_nobody_uses(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=cache,target=/c ls /c | wc -l; head -c 100000 /dev/zero > /c/{}\n"
    workshop.build(text.format("a"))
    with workshop.store.cache_mounts.use("/c", "shared", lambda path: None, lambda: False):
        workshop.store.cache_mounts.prune()
    workshop.build(text.format("b"))
    assert workshop.seen.output() == "1\n"
    assert workshop.store.images.prune(cache=True).freed_bytes >= 200_000
    workshop.build(text.format("c"))
    assert workshop.seen.output() == "0\n"


def test_shared_cache_has_many_users_at_once(workshop: Workshop) -> None:
    step = "FROM base AS {0}\nRUN --mount=type=cache,target=/c touch /c/{0}; until [ -e /c/{1} ]; do sleep 0.01; done\n"
    last = "FROM base\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
    workshop.build(step.format("a", "b") + step.format("b", "a") + last)


def test_private_cache_takes_another_directory_when_busy(workshop: Workshop) -> None:
    step = (
        "FROM base AS {0}\nRUN --mount=type=cache,target=/meet --mount=type=cache,target=/c,sharing=private "
        "touch /meet/{0} /c/{0}; until [ -e /meet/{1} ]; do sleep 0.01; done; ls /c | wc -l\n"
    )
    last = "FROM base\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
    workshop.build(step.format("a", "b") + step.format("b", "a") + last)
    assert workshop.seen.output().split() == ["1", "1"]


HOLDER = """
import sys
from pathlib import Path
from images.store import Store
with Store.open(Path(sys.argv[1])) as store:
    with store.cache_mounts.use("/c", "locked", lambda path: None, lambda: False) as path:
        print("held", flush=True)
        sys.stdin.readline()
        Path(path, "from-the-other").write_text("done")
"""


def _other_process(root: Path) -> subprocess.Popen[str]:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_locked_cache_waits_for_another_process(workshop: Workshop) -> None:
    with _other_process(workshop.store.root) as other:
        assert other.stdin is not None
        threading.Timer(0.3, print, ["go"], {"file": other.stdin, "flush": True}).start()
        workshop.build("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked cat /c/from-the-other\n")
    assert workshop.seen.output() == "done"


def test_waiting_for_a_locked_cache_can_be_cancelled(workshop: Workshop) -> None:
    cancelled = threading.Event()
    with _other_process(workshop.store.root) as other:
        threading.Timer(0.3, cancelled.set).start()
        with pytest.raises(BuildCancelledError):
            workshop.build("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked true\n", cancelled=cancelled)
        other.communicate("go\n")


def test_locked_cache_has_one_user_at_a_time(workshop: Workshop) -> None:
    step = (
        "FROM base AS {0}\nRUN --mount=type=cache,target=/c,sharing=locked "
        "mkdir /c/lock && sleep 0.2 && rmdir /c/lock\n"
    )
    last = "FROM base\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
    workshop.build(step.format("a") + step.format("b").replace("0.2", "0.21") + last)


def test_one_id_twice_in_a_step_is_one_cache(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN --mount=type=cache,target=/a,id=x,sharing=locked --mount=type=cache,target=/b,id=x "
        "echo same > /a/f && cat /b/f\n"
    )
    assert workshop.seen.output() == "same\n"


# bind


def test_bind_shows_the_context_without_what_is_ignored(workshop: Workshop) -> None:
    (workshop.context / "d").mkdir()
    (workshop.context / "d" / "f").write_text("content")
    (workshop.context / "hidden").write_text("no")
    image = built(
        workshop.build("FROM base\nRUN --mount=target=/src find /src | sort && cat /src/d/f\n", ignore="hidden")
    )
    assert workshop.seen.output().split() == ["/src", "/src/d", "/src/d/f", "content"]
    assert not [name for name in workshop.files(image) if name.startswith("src")]


def test_bind_may_be_one_file(workshop: Workshop) -> None:
    (workshop.context / "go.mod").write_text("module x\n")
    workshop.build("FROM base\nWORKDIR /w\nRUN --mount=source=go.mod,target=go.mod cat /w/go.mod\n")
    assert workshop.seen.output() == "module x\n"


def test_step_runs_again_only_when_what_it_mounts_has_changed(workshop: Workshop) -> None:
    (workshop.context / "used").write_text("1")
    (workshop.context / "unused").write_text("1")
    text = "FROM base\nRUN --mount=source=used,target=/u cat /u\n"
    workshop.build(text)
    (workshop.context / "unused").write_text("2")
    os.utime(workshop.context / "used", (1, 1))
    assert workshop.counts(text)[0] == 0
    (workshop.context / "used").write_text("2")
    workshop.build(text)
    assert workshop.seen.output() == "2"


def test_bind_from_a_stage_counts_by_the_selected_files(workshop: Workshop) -> None:
    text = (
        "FROM base AS made\nRUN mkdir /s && echo out > /s/f && chown 5:6 /s/f && echo {} > /other\n"
        "FROM base\nRUN --mount=from=made,source=/s,target=/m cat /m/f && stat -c %u:%g /m/f\n"
    )
    workshop.build(text.format(1))
    assert workshop.seen.output().split() == ["out", "5:6"]
    assert workshop.counts(text.format(2)) == (1, 1)
    assert workshop.counts(text.format(2)) == (0, 2)


def test_bind_from_an_image_and_a_whole_stage(workshop: Workshop) -> None:
    text = "FROM scratch AS s\nCOPY f /f\nFROM base\nRUN --mount=from=base,target=/b --mount=from=s,target=/s {}\n"
    (workshop.context / "f").write_text("text")
    workshop.build(text.format("ls /b/bin/sh && cat /s/f"))
    assert workshop.seen.output() == "/b/bin/sh\ntext"
    assert workshop.counts(text.format("ls /b/bin/sh && cat /s/f"))[0] == 0


def test_bind_is_read_only_by_default(workshop: Workshop) -> None:
    with pytest.raises(StepFailedError):
        workshop.build("FROM base\nRUN --mount=target=/src touch /src/f\n")
    assert "Read-only file system" in workshop.seen.output()


def test_writes_to_a_bind_are_thrown_away(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("old")
    image = built(
        workshop.build(
            "FROM base\nRUN --mount=target=/src,rw echo new > /src/f && mkdir /src/d && cp /src/f /kept\n"
            "RUN --mount=target=/src cat /src/f /kept && ls /src\n"
        )
    )
    assert workshop.seen.output() == "oldnew\nf\n"
    assert workshop.read(image, "kept") == "new\n"
    assert (workshop.context / "f").read_text() == "old"


def test_mounts_in_mounts_are_mounted_outer_first(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("source\n")
    workshop.build(
        "FROM base\nRUN --mount=type=cache,target=/src/out --mount=target=/src,rw cat /src/f && echo x > /src/out/x\n"
    )
    workshop.build("FROM base\nRUN --mount=type=cache,target=/src/out ls /src/out\n")
    assert workshop.seen.output() == "x\n"


def test_missing_source_is_an_error_with_the_place(workshop: Workshop) -> None:
    (workshop.context / "go.sum").touch()
    with pytest.raises(StepError, match=r'RUN --mount source /go.sun: "/go.sun" not found') as raised:
        workshop.build("FROM base\nRUN --mount=source=go.sun,target=/m true\n")
    assert "Dockerfile:2:" in raised.value.render()
    assert raised.value.hint == "did you mean go.sum?"
    with pytest.raises(StepError, match=r'RUN --mount source /none: "/none" not found in what it is from') as raised:
        workshop.build("FROM base AS a\nRUN true\nFROM base\nRUN --mount=from=a,source=/none,target=/m true\n")
    assert "Dockerfile:4:" in raised.value.render()


@pytest.mark.parametrize("mount", ["type=cache", "target=/", "type=tmpfs,target=/x/..", "from=later,target=/x"])
def test_mounts_that_cannot_be_are_refused_with_the_place(workshop: Workshop, mount: str) -> None:
    with pytest.raises((DockerfileError, UnsupportedError), match="Dockerfile:2:5"):
        workshop.build(f"FROM base AS this\nRUN --mount={mount} true\nFROM base AS later\n", target="this")


def test_values_of_mounts_are_expanded(workshop: Workshop) -> None:
    (workshop.context / "f1").write_text("one")
    workshop.build("FROM base\nARG N=1\nRUN --mount=source=f${N},target=/m/$N cat /m/1\n")
    assert workshop.seen.output() == "one"


# secret


def test_secret_is_a_file_that_only_root_reads(workshop: Workshop) -> None:
    image = built(
        workshop.build(
            "FROM base\nRUN --mount=type=secret,id=key stat -c %a:%u:%g /run/secrets/key && wc -c < /run/secrets/key\n",
            secrets={"key": SECRET},
        )
    )
    assert workshop.seen.output().split() == ["400:0:0", str(len(SECRET))]
    assert not [name for name in workshop.files(image) if "secrets" in name]


def test_secret_with_target_mode_and_owner(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN --mount=type=secret,id=key,target=/root/.k,mode=0440,uid=7,gid=8 stat -c %a:%u:%g /root/.k\n"
        "RUN --mount=type=secret,target=/x/key,required wc -c < /x/key\n",
        secrets={"key": SECRET},
    )
    assert workshop.seen.output().split() == ["440:7:8", str(len(SECRET))]


def test_secret_as_a_variable(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN --mount=type=secret,id=key,env=KEY echo ${#KEY}; ls /run/secrets 2>/dev/null | wc -l\n"
        "RUN --mount=type=secret,id=key,env=KEY,target=/k echo ${#KEY} $(wc -c < /k)\n",
        secrets={"key": SECRET},
    )
    size = str(len(SECRET))
    assert workshop.seen.output().split() == [size, "0", size, size]


def test_missing_secret_is_no_file_unless_required(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN --mount=type=secret,id=key test ! -e /run/secrets/key\n")
    with pytest.raises(StepError, match="secret 'key' is required") as raised:
        workshop.build("FROM base\nRUN --mount=type=secret,id=key,required true\n")
    assert "Dockerfile:2:" in raised.value.render()
    assert "--secret id=key" in (raised.value.hint or "")


def test_secret_counts_by_its_presence(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=key cat /run/secrets/key > /dev/null || true\n"
    assert workshop.counts(text, secrets={"key": SECRET}) == (1, 0)
    assert workshop.counts(text, secrets={"key": b"another"}) == (0, 1)
    assert workshop.counts(text) == (1, 0)
    assert workshop.counts(text) == (0, 1)


def test_secret_is_nowhere_on_disk_and_not_in_the_history(workshop: Workshop) -> None:
    image = built(
        workshop.build(
            "FROM base\nRUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=key,target=/k "
            'test "$KEY" = "$(cat /k)" && cat /k\n',
            secrets={"key": SECRET},
        )
    )
    assert SECRET.decode() not in str(image.config)
    assert not [data for data in _everything_below(workshop.store.root) if SECRET in data]


def test_output_of_every_step_is_masked(workshop: Workshop) -> None:
    lines = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n"
    workshop.build(
        "FROM base\nRUN --mount=type=secret,id=a,target=/a --mount=type=secret,id=b,target=/b "
        'cat /a; echo; cat /b; echo "x$(cat /a)y" | base64; for c in $(sed "s/./& /g" /a); do printf %s "$c"; done\n',
        secrets={"a": SECRET, "b": lines},
    )
    said = workshop.seen.output()
    assert said.count("***") >= 4
    for leak in (SECRET.decode(), "MIIEpAIBAAKCAQEA", base64.b64encode(b"x" + SECRET).decode()[4:20]):
        assert leak not in said


def test_output_at_the_end_of_a_failure_is_masked(workshop: Workshop) -> None:
    with pytest.raises(StepFailedError) as raised:
        workshop.build("FROM base\nRUN --mount=type=secret,id=a,target=/a cat /a /none\n", secrets={"a": SECRET})
    assert SECRET not in raised.value.output_tail
    assert b"***" in raised.value.output_tail


@pytest.mark.parametrize("size", range(1, 24))
def test_masking_does_not_depend_on_where_output_is_cut(size: int) -> None:
    masker = OutputMasker(secret_forms([SECRET]))
    text = b"a" + SECRET + b"b\n" + SECRET[:-1] + b"\n" + base64.b64encode(SECRET) + b" " + SECRET[:5]
    pieces = [masker.feed(text[at : at + size]) for at in range(0, len(text), size)]
    shown = b"".join([*pieces, masker.finish()])
    assert shown == b"a***b\n" + SECRET[:-1] + b"\n***== " + SECRET[:5]


def test_output_that_begins_no_secret_is_not_held_back() -> None:
    masker = OutputMasker(secret_forms([SECRET]))
    assert masker.feed(b"password? ") == b"password? "
    assert masker.feed(SECRET[:3]) == b""
    assert masker.feed(b"\n") == SECRET[:3] + b"\n"


def test_output_appears_while_the_step_runs(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN echo one; sleep 0.2; echo two\n", secrets={"a": SECRET})
    times = [event.at for event in workshop.seen.events if isinstance(event, StepOutput)]
    assert len(times) == 2
    assert times[0] < times[1] <= time.time()
