"""docs/pipelines.md: every file on it is run, and prints what the page says; and every key is in one of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ci.document import MappingNode, Node, read_document
from ci.facts import FACTS
from ci.language.jobs import JOB
from ci.language.pipelines import TOP
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig
from images.store import Store
from tests.toolkit.consoles import Command, Example, commands, examples, faults, is_there, normal
from tests.toolkit.shiplap import Shiplap

_PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"
_ELSEWHERE: Final = "A larger file"
"""It is run by the tests of ``examples/``."""
_EXAMPLES: Final = [
    example for example in examples(_PAGE.read_text()) if example.file and example.heading != _ELSEWHERE
]
_CHECKED: Final = "Check it"
"""Files that are not run: these are looked at only."""
_PREPARED: Final = next(example for example in examples(_PAGE.read_text()) if example.heading == "Try them").before


def _has(example: Example, command: str) -> bool:
    return any(command in typed.line for typed in example.after)


@pytest.mark.parametrize("example", _EXAMPLES, ids=str)
def test_example_prints_what_the_page_says(
    privileged: None, example: Example, tmp_path: Path, busybox_tar: Path
) -> None:
    shiplap = Shiplap(tmp_path / "root")
    with Store.open(shiplap.root) as store, busybox_tar.open("rb") as tar:
        config = ImageConfig.for_platform(Platform.host())
        import_rootfs(store, tar, config, [Reference.parse("busybox:1.37").with_default_tag()])
    tried = example if example.before else replace(example, before=_PREPARED)
    assert "\n".join(faults(tried, shiplap, tmp_path / "console")) == ""


def test_every_file_is_tried_and_every_command_shows_something() -> None:
    assert len(_EXAMPLES) > 20
    for example in _EXAMPLES:
        looked_at = example.heading == _CHECKED
        assert any(_has(example, f"shiplap ci {word}") for word in (["lint", "graph"] if looked_at else ["run"])), (
            example
        )
        assert any(command.shown for command in example.after), example


def _keys(node: Node | None) -> tuple[set[str], set[str]]:
    """The keys of a file, and those of its jobs."""
    assert isinstance(node, MappingNode)
    entries = {name.text: value for name, value in node.entries}
    jobs = entries["jobs"]
    assert isinstance(jobs, MappingNode)
    of_jobs = {name.text for _, job in jobs.entries if isinstance(job, MappingNode) for name, _ in job.entries}
    return set(entries), of_jobs


def test_every_key_is_in_an_example_that_is_run() -> None:
    run: tuple[set[str], set[str]] = (set(), set())
    for example in _EXAMPLES:
        if example.heading == _CHECKED:
            continue
        for known, found in zip(run, _keys(read_document(example.file.encode(), "page")[0]), strict=True):
            known |= found
    for keys, tried in zip((TOP, JOB), run, strict=True):
        assert keys.keys() - tried == set()


def test_words_of_others_are_beside_keys_that_there_are() -> None:
    """In the first column of the table, whatever is between backticks and is one small word."""
    table = (
        _PAGE.read_text().partition("## Coming from")[2].split("\n| --- | --- | --- | --- |\n")[1].partition("\n\n")[0]
    )
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()]
    words = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row)}
    assert len(words) > 20
    assert {word for word in words if word not in JOB and word not in TOP} == set()
    assert set(re.findall(r"`(SHIPLAP_[A-Z]+)`", table)) <= FACTS.keys()


# How a page is read.


def test_page_is_read_by_headings() -> None:
    page = (
        "## One\n```console\n$ a\n```\n```yaml\nx: 1\n```\n\n```console\n$ b\nsaid\n\n(exit code 3)\n$ c\n```\n"
        "```yaml\ny: 1\n```\n### Two\n```yaml\nz: 1\n```\n## Three\n```console\n$ d\n```\n```\n$ e\n```\n"
    )
    a, b, c, d = Command("a"), Command("b", ("said",), 3), Command("c"), Command("d")
    assert list(examples(page)) == [
        Example("One", 1, (a,), "x: 1\n", (b, c)),
        Example("One", 2, (a,), "y: 1\n"),
        Example("Two", 1, (), "z: 1\n"),
        Example("Three", 0, (d,), ""),
    ]
    with pytest.raises(ValueError, match="belongs to no command"):
        commands("said\n")


def test_times_and_blanks_are_alike_and_an_ellipsis_is_anything() -> None:
    printed = {normal("check  succeeded  0.3s  it is 12s late"), normal("app@sha256:0123")}
    assert is_there("check succeeded 12.0s it is 12s late", printed)
    assert is_there("app@sha256:…", printed)
    assert not is_there("check succeeded", printed)
    assert not is_there("app@…x", printed)


def test_what_is_not_as_shown_is_told(tmp_path: Path) -> None:
    """In one shell: a directory and a variable that one command leaves are there for the next."""
    typed = commands("$ mkdir d && cd d\n$ x=1\n")
    after = commands("$ cat .shiplap.yml; echo $x; exit_with() { return $1; }\nfile1\nnever\n$ exit_with 4\n")
    told = faults(Example("One", 1, typed, "file", after), Shiplap(tmp_path / "root"), tmp_path / "console")
    assert [fault.splitlines()[1] for fault in told] == [
        "did not print: never",
        "ended with 4, not 0:",
    ]
