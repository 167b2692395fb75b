"""``shiplap ci convert``, as somebody types it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_ci_commands import shiplap

_GOOD = "steps:\n  - {name: test, image: 'busybox:1.37', commands: ['true']}\n"
_LEFT = "steps:\n  - {name: test, image: 'busybox:1.37', commands: ['true'], privileged: true}\n"


def test_a_file_is_written_that_lints(tmp_path: Path) -> None:
    (tmp_path / ".woodpecker.yaml").write_text(_GOOD)
    done = shiplap(tmp_path, "convert", "woodpecker", ".woodpecker.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == ".shiplap.yml: made from .woodpecker.yaml: nothing is left to do\n"
    assert shiplap(tmp_path, "lint").returncode == 0


def test_what_is_left_is_listed_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(_LEFT)
    done = shiplap(tmp_path, "convert", "woodpecker", "w.yaml", "-o", "-")
    assert done.returncode == 1
    assert "w.yaml:2:61: test is privileged, and no job is here\n    2 |   - {name" in done.stderr
    assert done.stdout.startswith("# Converted from w.yaml.\n# Left to do, or other than it was:\n# - w.yaml:2:61: ")
    assert not (tmp_path / ".shiplap.yml").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(_GOOD)
    (tmp_path / ".shiplap.yml").write_text("mine\n")
    done = shiplap(tmp_path, "convert", "woodpecker", "w.yaml")
    assert (done.returncode, done.stderr) == (
        2, "error: .shiplap.yml is there already\nhint: -o PATH writes elsewhere, --force over it\n"
    )  # fmt: skip
    assert (tmp_path / ".shiplap.yml").read_text() == "mine\n"
    assert shiplap(tmp_path, "convert", "woodpecker", "w.yaml", "--force").returncode == 0


def test_several_files_become_several_pipelines_or_none(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text(_GOOD)
    assert shiplap(tmp_path, "convert", "woodpecker", "a.yaml", "b.yml").returncode == 0
    assert sorted(path.name for path in (tmp_path / ".shiplap").iterdir()) == ["a.yml", "b.yml"]
    assert shiplap(tmp_path, "lint").returncode == 0
    (tmp_path / "c.yml").write_text("no: workflow\n")
    done = shiplap(tmp_path, "convert", "woodpecker", "a.yaml", "c.yml", "-o", "elsewhere")
    assert done.returncode == 2
    assert "c.yml:1:1: error: this is no workflow of Woodpecker: it has no `steps`" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
    done = shiplap(tmp_path, "convert", "woodpecker", "w.yaml")
    assert (done.returncode, done.stderr) == (2, "error: there is no file w.yaml\n")


def test_pipelines_are_not_written_beside_those_of_the_other_kind(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", ".shiplap.yml"):
        (tmp_path / name).write_text(_GOOD)
    for more in (("a.yaml", "b.yml"), ("a.yaml", "-o", ".shiplap/a.yml")):
        done = shiplap(tmp_path, "convert", "woodpecker", *more)
        assert done.returncode == 2
        assert done.stderr.startswith("error: there is .shiplap.yml, and pipelines are in one or the other\nhint: move")
        assert not (tmp_path / ".shiplap").exists()


def test_a_terminal_obeys_nothing_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text('steps:\n  "\\e]0;x\\a": {image: "b:1", commands: [x], volumes: ["\\e[2J"]}\n')
    done = shiplap(tmp_path, "convert", "woodpecker", "w.yaml", "-o", "-")
    assert "\x1b" not in done.stdout + done.stderr
