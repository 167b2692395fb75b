"""The damages themselves: each is code, each is one change, and a test that is worth its name notices it."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from tests.mutation.choosing import choose, room_of
from tests.mutation.mutants import ROOMS, mutants_in, mutants_of

_ROOT = Path(__file__).resolve().parents[2]


def _all(text: str) -> set[str]:
    return {mutant.applied(text.encode()).decode() for mutant in mutants_in("core/x.py", text.encode())}


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        ("x = a < b\n", {"x = (a <= b)\n"}),
        ("x = 'ä' is not b\n", {"x = ('ä' is b)\n"}),
        ("x = a and b\n", {"x = (a or b)\n", "x = (a)\n", "x = (b)\n"}),
        ("x = not a\n", {"x = (a)\n"}),
        ("x = a + 1\n", {"x = (a - 1)\n", "x = a + 2\n"}),
        ("x = a + 'b'\n", set()),
        ("x = True\n", {"x = False\n"}),
        ("f(a)\n", {"pass\n"}),
        ("_log.info(a)\n", set()),
        ("raise E\n", {"pass\n"}),
        ("def f(a: int = 1) -> bool:\n    return a\n", {
            "def f(a: int = 2) -> bool:\n    return a\n", "def f(a: int = 1) -> bool:\n    return None\n"}),
        ("if TYPE_CHECKING:\n    f()\n", set()),
        ("assert a < b\n", set()),
        ("'a docstring'\n", set()),
    ],
)  # fmt: skip
def test_damages(text: str, damaged: set[str]) -> None:
    assert _all(text) == damaged


def test_every_damage_is_code() -> None:
    mutants = mutants_of(_ROOT)
    assert {mutant.path.partition("/")[0] for mutant in mutants} == set(ROOMS)
    for mutant in random.Random(0).sample(mutants, 200):
        source = (_ROOT / mutant.path).read_bytes()
        assert ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source)), mutant


def test_tests_are_chosen_by_the_lines_that_they_run_and_else_by_what_they_import() -> None:
    (mutant,) = (each for each in mutants_in("core/passwords.py", b"\n\nx = a < b\n") if each.line == 3)
    reach = {
        "tests/a.py": {"seconds": 9.0, "ran": {"core/passwords.py": [1, 3]}},
        "tests/b.py": {"seconds": 1.0, "ran": {"core/passwords.py": [3]}},
        "tests/core/test_passwords.py": {"seconds": 1.0, "ran": {"core/passwords.py": [1]}},
    }
    chosen = choose(mutant, reach)
    assert chosen[:2] == ["tests/b.py", "tests/a.py"]
    assert "tests/core/test_passwords.py" not in chosen
    assert "tests/core/test_passwords.py" in choose(mutant, {})
    assert room_of(mutant) == "tests/core"
