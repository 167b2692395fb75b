"""Names of owners that the image does not have: root stands in, and the user is told, whatever the cache answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.frontend.unknownowners import OWNER_RULE, Accounts, accounts_in, find_unknown_owners
from builder.request.output import Output
from builder.running.failures import StepError
from core.events import Warned
from dockerfile_grammar import parse
from tests.builder.workshops import Workshop, workshop

GHOST = "--chown=apq:staff: the image has no user 'apq', root is taken instead (did you mean app?)"
NO_GROUP = "USER zzz:stuff: the image has no group 'stuff', the user's own group is taken instead (did you mean staff?)"
TEXT = "FROM base\nRUN printf 'app:x:7:8::/:/bin/sh\\n' > /etc/passwd && echo staff:x:50: > /etc/group\n"


@pytest.fixture
def shop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    with workshop(tmp_path, busybox_tar) as made:
        yield made


def warned(shop: Workshop) -> list[tuple[int, str, str]]:
    return [(it.line, it.rule, it.message) for it in shop.seen.events if isinstance(it, Warned)]


@pytest.mark.usefixtures("privileged")
def test_unknown_name_is_told_also_when_the_step_is_cached(shop: Workshop) -> None:
    for executed in (2, 0):
        result = shop.build(f"{TEXT}COPY --chown=apq:staff f /x\n")
        assert result.executed == executed
        assert warned(shop) == [(3, "UnknownOwner", GHOST)]
    shop.build(f"{TEXT}COPY --chown=app:staff f /y\nCOPY --chown=7:staff f /z\nCOPY f /\n")
    assert warned(shop) == []


@pytest.mark.usefixtures("privileged")
def test_unknown_user_of_a_workdir_is_told_at_its_user_instruction(shop: Workshop) -> None:
    text = f"{TEXT}USER app\nUSER zzz:stuff\nWORKDIR /made/here\nUSER app\nWORKDIR /other\n"
    for _ in range(2):
        shop.build(text)
        assert warned(shop) == [
            (4, "UnknownOwner", "USER zzz:stuff: the image has no user 'zzz', root is taken instead"),
            (4, "UnknownOwner", NO_GROUP),
        ]


@pytest.mark.usefixtures("privileged")
def test_check_that_is_an_error_refuses_the_step_also_when_it_is_cached(shop: Workshop) -> None:
    step = "COPY --chown=apq f /x\n"
    for _ in range(2):
        with pytest.raises(StepError, match=r"does not pass its checks \(UnknownOwner\): line 4") as caught:
            shop.build(f"# check=error=true\n{TEXT}{step}")
        assert caught.value.lines.first == 4
        shop.build(f"{TEXT}{step}")
    shop.build(f"# check=error=true;skip=UnknownOwner\n{TEXT}{step}")
    shop.build(f"# check=error=true\n{TEXT}# check=skip=UnknownOwner\n{step}")
    assert warned(shop) == []


@pytest.mark.usefixtures("privileged")
def test_run_as_an_unknown_user_is_an_error_at_run(shop: Workshop) -> None:
    with pytest.raises(StepError, match="ghost") as caught:
        shop.build("FROM base\nUSER ghost\nWORKDIR /w\nRUN true\n")
    assert caught.value.lines.first == 4


def test_stage_from_scratch_has_no_names_but_root(shop: Workshop) -> None:
    shop.build("FROM scratch\nCOPY --chown=root f /\n")
    with pytest.raises(StepError, match="there are no files yet in this stage from scratch") as caught:
        shop.build("FROM scratch\nCOPY --chown=app f /\n")
    assert caught.value.hint is not None
    assert "useradd" not in caught.value.hint


def test_accounts_are_read_from_the_layers_of_an_image(shop: Workshop) -> None:
    (shop.context / "passwd").write_text("one:x:1:1:::\n\n \ttwo:x:2:2:::\n# three\n")
    image = shop.build("FROM base\nCOPY passwd /etc/passwd\n", Output("image")).image
    assert image is not None
    found = accounts_in(shop.store, image.diff_ids)
    assert found is not None
    assert found.users == ("one", "two", "# three")  # as a step looks names up
    assert accounts_in(shop.store, ()) == Accounts()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("COPY --chown=ghost f /", [2]),
        ("COPY --chown=app:staff f /", []),
        ("COPY --chown=5:ghosts f /", [2]),
        ("ARG OWNER=app\nADD --chown=$OWNER f /", []),
        ("ARG WHO=app\nADD --chown=$WHO f /", [3]),
        ("COPY --link --chown=5 f /", []),
        ("USER ghost\nUSER 5\nWORKDIR /w", []),
        ("USER ghost\nENV a=b\nWORKDIR /w", [2]),
        ("RUN adduser ghost\nCOPY --chown=ghost f /", []),  # nobody knows
        ("COPY passwd /etc/passwd\nCOPY --chown=ghost f /", []),
        ("COPY root /\nCOPY --chown=ghost f /", []),
        ("COPY f etc\nCOPY --chown=ghost f /", []),
        ("COPY f /srv/\nCOPY --chown=ghost f /", [3]),
        ("RUN true\nFROM base\nCOPY --chown=ghost f /", [4]),
        ("RUN true\nFROM a\nCOPY --chown=ghost f /", []),
        ("ENV a=b\nFROM a\nCOPY --chown=ghost f /", [4]),
        ("FROM unknown\nCOPY --chown=ghost f /", []),
        ("FROM scratch\nCOPY --chown=root f /", []),
    ],
)
def test_without_a_build_it_is_told_where_it_is_sure(text: str, lines: list[int]) -> None:
    known = {"base": Accounts(("root", "app"), ("root", "staff"))}
    found = find_unknown_owners(parse(f"FROM base AS a\n{text}\n"), {"WHO": "ghost"}, known.get)
    assert [(finding.line, finding.rule) for finding in found] == [(line, OWNER_RULE.name) for line in lines]
