"""What a stranger reads first is true: README, CONTRIBUTING, SECURITY, the chart, and the walk through a build."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import click
import pytest

from bench import chart
from cli.app import shiplap
from core.release import VERSION

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_README: Final = _CHECKOUT / "README.md"
_WALKED: Final = _CHECKOUT / "docs" / "a-build-walked.md"
_OURS: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/commands.md", "docs/a-build-walked.md")
_MAX_PICTURE_BYTES: Final = 150_000
_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def sections(path: Path) -> dict[str, str]:
    """The text below each heading of level two."""
    parts = re.split(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchors(path: Path) -> set[str]:
    """What links may lead to in a document, as forges make it of its headings."""
    headings = re.findall(r"^#{1,6} (.+)$", _CODE.sub("", path.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).strip().replace(" ", "-") for heading in plain}


def command_lines(text: str) -> list[list[str]]:
    """What readers are to type, in words: all that begins with ``shiplap``, in code of both kinds."""
    lines = re.findall(r"^(?:    )?\$ (.+)$", text, re.MULTILINE) + re.findall(r"`(shiplap [^`]+)`", text)
    lines += re.findall(r"^    (shiplap .+)$", text, re.MULTILINE)
    parts = [part.strip() for line in lines for part in re.split(r"&&|[|;&<>]", re.sub(r"\s#.*", "", line))]
    return [shlex.split(part) for part in parts if part.startswith("shiplap")]


def not_known(words: list[str]) -> list[str]:
    """The commands and options of a line that there are not."""
    command: click.Command = shiplap
    context = click.Context(command)
    left = words[1:]
    while left:
        word = left.pop(0)
        if word == "--":
            break
        if word.startswith("-"):
            named = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            if word.partition("=")[0] not in {*named, "--help", "-h"}:
                return [word]
            values = [option for option in command.params if word in option.opts]
            if values and isinstance(values[0], click.Option) and not values[0].is_flag and left:
                left.pop(0)
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return [word]
            command, context = found, click.Context(found, context)
        elif command.name == "run":
            break  # what follows the image is the container's
    return []


def published() -> Any:
    return json.loads(chart.PUBLISHED.read_text())


def test_readme_begins_with_one_sentence_and_a_picture_of_a_run() -> None:
    _, sentence, picture, *_ = _README.read_text().split("\n\n")
    assert sentence.count(".") == 1
    found = re.fullmatch(r"!\[[^\]]+\]\((docs/pictures/run\.png)\)", picture)
    assert found is not None
    assert (_CHECKOUT / found[1]).stat().st_size < _MAX_PICTURE_BYTES


def test_readme_has_ten_bullets_and_each_leads_on() -> None:
    bullets = re.findall(r"^- .+(?:\n  .+)*", sections(_README)["What it does"], re.MULTILINE)
    assert len(bullets) == 10
    assert [bullet for bullet in bullets if "](docs/" not in bullet] == []


def test_readme_leads_to_every_document() -> None:
    reached, left = {_README}, [_README]
    while left:
        document = left.pop()
        targets = re.findall(r"\]\(([^)#\s:]+\.md)(?:#[^)]*)?\)", document.read_text())
        new = {(document.parent / target).resolve() for target in targets} - reached
        reached |= new
        left += new
    assert set((_CHECKOUT / "docs").glob("*.md")) - reached == set()


@pytest.mark.parametrize("name", _OURS)
def test_anchors_lead_to_headings(name: str) -> None:
    path = _CHECKOUT / name
    missing = [
        f"{target}#{anchor}"
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", path.read_text())
        if "://" not in target and anchor not in anchors(path.parent / target if target else path)
    ]
    assert missing == []


@pytest.mark.parametrize("name", _OURS)
def test_commands_and_options_that_readers_are_to_type_exist(name: str) -> None:
    lines = command_lines((_CHECKOUT / name).read_text())
    assert lines or name == "docs/commands.md"
    assert {" ".join(line): wrong for line in lines if (wrong := not_known(line))} == {}


def test_what_does_not_exist_is_noticed() -> None:
    text = "    $ shiplap project ad hello\n`shiplap build --tags x .`\n    shiplap run --rm a b --not-ours\n"
    assert [not_known(line) for line in command_lines(text)] == [["ad"], ["--tags"], []]


def test_files_that_are_named_exist() -> None:
    rooms = "|".join(sorted(path.parent.name for path in _CHECKOUT.glob("*/__init__.py")))
    named = re.compile(rf"`((?:{rooms}|docs|scripts|tests|compose|examples|\.ci)/[\w./-]*)`")
    missing = {
        f"{name}: {path}"
        for name in _OURS
        for path in named.findall((_CHECKOUT / name).read_text())
        if not (_CHECKOUT / path).exists()
    }
    assert missing == set()


def test_what_the_walk_imports_is_there() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```$", _WALKED.read_text(), re.MULTILINE | re.DOTALL)
    imports = [
        (node.module, alias.name)
        for snippet in snippets
        for node in ast.walk(ast.parse(snippet))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    assert len(snippets) == 2
    assert [pair for pair in imports if not hasattr(importlib.import_module(pair[0]), pair[1])] == []


def test_walk_goes_through_every_room() -> None:
    text = _WALKED.read_text()
    rooms = {path.parent.name for path in _CHECKOUT.glob("*/__init__.py")} - {
        "bench",
        "ci",
        "dockerapi",
        "engine",
    }  # a build is no job of a pipeline, its steps are no containers that live on, and it needs no API
    assert {room for room in rooms if f"`{room}/" not in text} == set()


def test_chart_is_what_the_bench_makes_of_what_is_published() -> None:
    assert chart.CHART.read_text() == chart.draw(published()) + "\n", "run python -m bench.chart"
    assert f"![{chart.words(published())}](docs/pictures/speed.svg)" in _README.read_text()


def test_figures_of_the_chart_are_those_of_the_performance_page() -> None:
    page = (_CHECKOUT / "docs" / "performance.md").read_text()
    figures = [f"{row['median_s'][tool]:.3g} s" for row in published()["rows"] for tool in ("shiplap", "buildkit")]
    assert len(figures) == 6
    assert [figure for figure in figures if figure not in page] == []


def test_chart_takes_its_rows_from_a_result_of_the_bench() -> None:
    rows = [*published()["rows"], {"row": "stages", "median_s": {}, "ratio": {}}]
    result = {**published(), "rows": rows, "samples": [1, 2], "runs": 5}
    kept = chart.chosen(result)
    assert [row["row"] for row in kept["rows"]] == ["run", "run-cached", "copy-changed"]
    assert "samples" not in kept
    assert chart.draw(kept) == chart.draw(published())
    with pytest.raises(ValueError, match="no row 'run' beside buildkit"):
        chart.chosen({**result, "rows": rows[1:]})


def test_bar_is_as_long_as_our_part_of_their_time() -> None:
    row = {"row": "run", "median_s": {"shiplap": 1.9, "buildkit": 2.0}, "ratio": {"buildkit": 0.95}}
    others = published()["rows"][1:]
    drawn = chart.draw({**published(), "rows": [row, *others]})
    theirs = re.findall(r'class="theirs" x="20" y="\d+" width="(\d+)" height="24"', drawn)
    ours = [float(width) for width in re.findall(r'class="ours" x="20" y="\d+" width="([\d.]+)" height="24"', drawn)]
    assert theirs == ["520", "520", "520"]
    assert ours == [
        pytest.approx(520 * part, abs=0.1)
        for part in (0.95, others[1]["ratio"]["buildkit"], others[0]["ratio"]["buildkit"])
    ]
    assert 'class="on"' in drawn, "there is no room beside a bar that is nearly as long as theirs"


def test_contributing_has_every_target() -> None:
    text = (_CHECKOUT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^\.PHONY: ([\w-]+)$", (_CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if target != "help" and f"| `make {target}` |" not in text] == []


def test_security_supports_this_version_and_is_where_the_promises_are() -> None:
    minor = ".".join(VERSION.split(".")[:2])
    assert f"| {minor}, the newest release of it | yes |" in (_CHECKOUT / "SECURITY.md").read_text()
    assert "](../SECURITY.md)" in (_CHECKOUT / "docs" / "security.md").read_text()
