"""What docstrings, comments and documents name is there; and the check that says so finds what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.references import broken

_CHECKOUT = Path(__file__).resolve().parents[2]
_MODULES = {
    "room/__init__.py": '"""A room."""\n',
    "room/base.py": """
class Base:
    size: int

    def run(self) -> None:
        self.state = 1
""",
    "room/street/__init__.py": "",
    "room/street/house.py": """
from room.base import Base
LIMIT = 1
class House(Base):
    def open_door(self): ...
""",
    "room/street/shed.py": """
from typing import NamedTuple
from room.street import house
class Shed(NamedTuple):
    width: int
""",
    "room/street/garden.py": """
import os
from room import base
from room.street import house
NAME = 'user.note'
""",
    "docs/page.md": "# A page\n",
    "docs/decisions/0001-first.md": "# 1. First\n",
    "scripts/run": "#!/bin/sh\n",
    "tests/test_house.py": "",
}


def _broken(root: Path, text: str, place: str = "room/street/window.py") -> list[str]:
    for name, content in _MODULES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / place).write_text(text)
    return [each.name for each in broken(root)]


def test_every_reference_of_this_repository_leads_somewhere() -> None:
    assert [f"{each.place}: {each.name}" for each in broken(_CHECKOUT)] == []


@pytest.mark.parametrize(
    "name",
    [
        "room.street.house", "room.street.house.LIMIT", "room.street.house.House.open_door",
        "room.base.Base.size", "room.base.Base.state", "room.street.house.House.state",  # inherited
        "house.House", "house.LIMIT", "house.open_door",  # of a value of its class
        "Shed.width", "Shed._replace", "shed.width", "street/house.py",
        "House.open_door", "House.run", "Base.size", "base.Base", "open_door", "open_door()",
        "room/base.py", "room/street/", "house.py", "docs/page.md", "scripts/run", "room/*.py",
        "user.note", "os.path.join", "registry.example/a/b", "a/b", "key.pem", "LIMIT", "x",
    ],
)  # fmt: skip
def test_what_is_there_is_not_reported(tmp_path: Path, name: str) -> None:
    assert _broken(tmp_path, f'"""See ``{name}``, or `{name}`."""\n') == []


@pytest.mark.parametrize(
    "name",
    [
        "room.gone", "room.street.gone.House", "room.street.house.GONE", "room.street.house.House.gone",
        "Shed.gone", "shed.gone", "room.street.shed.width", "street/gone.py",
        "house.GONE", "House.gone", "Base.open_door", "gone.House", "open_gate", "open_gate()", "FrontGate",
        "scripts/gone", "room/gone.py", "room/gone/", "gone.py", "docs/gone.md", "tests/test_gone.py", "room/g*.py",
    ],
)  # fmt: skip
def test_what_is_gone_is_reported(tmp_path: Path, name: str) -> None:
    assert _broken(tmp_path, f'"""See ``{name}``."""\n') == [f"{name}"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("docs/page.md, decision 1 and decisions/0001", []),
        ("of docs/gone.md", ["docs/gone.md"]),
        ("by decision 2", ["decision 2"]),
        ("by decisions/0003", ["decisions/0003"]),
        ("as room/street/house.py has it, and room/gone.py", ["room/gone.py"]),
        ("source: moby/buildkit/docs/gone.md", []),
        ("see the sketch.md, and page.md", ["sketch.md"]),
        ("Spec: image-spec config.md, or OCI's layer.md", []),
        ("billiard's ``open_gate`` and containerd's ``platforms.Only``", []),
    ],
)
def test_paths_and_decisions_count_without_backticks(tmp_path: Path, text: str, wrong: list[str]) -> None:
    assert _broken(tmp_path, f'"""{text}"""\n') == wrong
    assert _broken(tmp_path, f"X = 1  # {text}\n") == wrong
    assert _broken(tmp_path, f"class X:\n    y: int\n    '''{text}'''\n") == wrong
    (tmp_path / "room/street/window.py").unlink()
    assert _broken(tmp_path, f"{text}\n", "docs/other.md") == wrong


@pytest.mark.parametrize("path", ["../elsewhere/page.md", "../../../page", "../gone.py"])
def test_path_upwards_stays_in_the_repository(tmp_path: Path, path: str) -> None:
    (tmp_path.parent / "page").write_text("")
    assert path in _broken(tmp_path, f'"""As {path} says, ../base.py and ``../any``."""\n')


@pytest.mark.parametrize("owner", ["House's", "the house's", "the", "its"])
def test_what_belongs_to_this_project_is_looked_for(tmp_path: Path, owner: str) -> None:
    assert _broken(tmp_path, f'"""As {owner} ``open_gate``."""\n') == ["open_gate"]


def test_strings_of_the_code_are_no_texts(tmp_path: Path) -> None:
    assert _broken(tmp_path, "X = 'docs/gone.md and ``room.gone``'\n") == []


def test_place_is_the_line_of_the_reference(tmp_path: Path) -> None:
    _broken(tmp_path, '"""First.\n\nThird: ``room.gone``.\n"""\n')
    assert [each.place for each in broken(tmp_path)] == ["room/street/window.py:3"]


def test_what_git_ignores_is_made_later(tmp_path: Path) -> None:
    assert _broken(tmp_path, "`scripts/made/`\n", "docs/other.md") == ["scripts/made/"]
    (tmp_path / "scripts" / ".gitignore").write_text("/made/\n")
    assert broken(tmp_path) == []
