"""What a failed step's error advises: what containers without the host's root do otherwise, and slips of the hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.graph.mounts import CacheMount
from builder.graph.vertices import RunOp
from builder.running.failures import StepError
from builder.running.hints import hint_for
from containers.spec import ExitStatus
from dockerfile_grammar import DockerfileError
from tests.builder.workshops import Workshop, workshop

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture
def shop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    with workshop(tmp_path, busybox_tar) as made:
        yield made


def hint_of(shop: Workshop, text: str) -> str:
    with pytest.raises(StepError) as caught:
        shop.build(text)
    return caught.value.hint or ""


def test_id_that_no_step_has_is_explained(shop: Workshop) -> None:
    assert "IDs 0 to 65535 and no others" in hint_of(shop, "FROM base\nRUN touch f && chown 70000 f\n")
    assert "65535" in hint_of(shop, "FROM base\nUSER 70000\nRUN true\n")
    assert hint_of(shop, "FROM base\nRUN echo 'Invalid argument'; exit 1\n") == ""


def test_cache_of_another_owner_is_explained(shop: Workshop) -> None:
    step = "RUN --mount=type=cache,target=/c{} touch /c/x\n"
    hint = hint_of(shop, "FROM base\nUSER 1000\n" + step.format(""))
    assert "the cache at /c belongs to 0:0 with mode 0755, and the step runs as user 1000" in hint
    assert hint.endswith("target=/c,… with uid=1000")
    shop.build("FROM base\nUSER 1000\n" + step.format(",id=other,uid=1000"))


@pytest.mark.parametrize(
    ("user", "mount", "told"),
    [
        ("1000", {}, True),
        ("app:app", {}, True),
        ("1000", {"uid": 1000}, False),
        ("1000", {"mode": 0o777}, False),
        ("5:7", {"gid": 7, "mode": 0o775}, False),
        ("5:7", {"gid": 7}, True),
        ("", {"uid": 5}, False),
        ("root:staff", {}, False),
    ],
)
def test_cache_is_blamed_only_where_the_user_cannot_write_it(user: str, mount: dict[str, int], told: bool) -> None:
    cache = CacheMount("/c", "/c", "shared", False, **mount)  # type: ignore[arg-type]
    op = RunOp(("/bin/sh", "-c", "x"), (), "/", user, mounts=(cache,))
    hint = hint_for(op, ExitStatus(1), b"touch: /c/x: Permission denied\n")
    assert (hint is not None and "the cache at /c" in hint) is told
    assert hint_for(op, ExitStatus(1), b"no such file\n") is None


@pytest.mark.parametrize(
    "output",
    [
        b"chown: changing ownership of 'f': Invalid argument\n",
        b"chown: f: Invalid argument\n",
        b"tar: x: Cannot change ownership to uid 70000, gid 0: Invalid argument\n",
        b"su: setgid: Invalid argument\n",
    ],
)
def test_programs_that_were_refused_an_id_are_understood(output: bytes) -> None:
    op = RunOp(("/bin/sh", "-c", "x"), (), "/", "")
    assert "65535" in (hint_for(op, ExitStatus(1), b"noise\n" * 5000 + output) or "")
    assert hint_for(op, ExitStatus(1), output + b"noise\n" * 5000) is None


def test_platform_without_a_value_names_the_variable(shop: Workshop) -> None:
    with pytest.raises(DockerfileError, match=r"1:17: FROM --platform: \$BULIDPLATFORM has no value") as caught:
        shop.build("FROM --platform=$BULIDPLATFORM base\n")
    assert caught.value.hint == "did you mean $BUILDPLATFORM?"
