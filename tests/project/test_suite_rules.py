"""The suite's own rules: nothing is skipped, and ``scripts/test`` is green only when everything passed."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolkit import bounds
from tests.toolkit.order import APART, LONGEST, beginning

_CHECKOUT = Path(__file__).resolve().parents[2]
_GOOD = "def test_good():\n    pass\n"
_BAD = "def test_bad():\n    assert False, 'always'\n"
_SKIPS = "import pytest\ndef test_skips():\n    pytest.skip('no such program')\n"
_SKIPPING_FIXTURE = """
import pytest

@pytest.fixture
def given():
    pytest.skip('no such program')

def test_skips(given):
    pass
"""
_ONCE = """
from pathlib import Path

def test_once(tmp_path_factory):
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")
"""
_IN_COMPANY = """
import os

def test_in_company():
    assert "PYTEST_XDIST_WORKER" not in os.environ
"""


class Suite:
    """A checkout of a few tests, with this one's ``scripts/test`` and rules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = folder / "tests" / "flaky.txt"
        for name in ("scripts", "tests"):
            (folder / name).mkdir()
        (folder / "scripts" / "test").write_bytes((_CHECKOUT / "scripts" / "test").read_bytes())
        (folder / "scripts" / "test").chmod(0o755)
        (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\ntestpaths = tests\n")
        (folder / "conftest.py").write_text(
            "from tests.toolkit.noskips import pytest_make_collect_report, pytest_runtest_makereport\n"
        )

    def add(self, name: str, text: str) -> None:
        (self.folder / "tests" / f"test_{name}.py").write_text(text)

    def run(self, *arguments: str, script: bool = True, workers: int = 0) -> subprocess.CompletedProcess[str]:
        """workers: a test is in the company of others where there are any; without, a run is quicker."""
        command = [self.folder / "scripts" / "test", str(workers)] if script else [sys.executable, "-m", "pytest"]
        own = ("CI", "PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
        environment = {name: value for name, value in os.environ.items() if name not in own}
        return subprocess.run(
            [*command, *arguments],
            env={
                **environment,
                "PYTHONPATH": str(_CHECKOUT),
                "VENV": sys.prefix,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # some take long to import
                "PYTEST_ADDOPTS": "-p xdist",
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    suite = Suite(tmp_path)
    suite.add("good", _GOOD)
    return suite


@pytest.mark.parametrize(
    "text",
    [
        _SKIPS,
        "import pytest\n@pytest.mark.skipif(True, reason='no such program')\ndef test_skips():\n    pass\n",
        _SKIPPING_FIXTURE,
        "import pytest\npytest.skip('no such program', allow_module_level=True)\n",
    ],
    ids=["the test", "a mark", "a fixture", "the module"],
)
def test_whatever_skips_fails(suite: Suite, text: str) -> None:
    suite.add("skips", text)
    result = suite.run(script=False)
    assert result.returncode in (1, 2), result.stdout + result.stderr
    assert "this suite skips nothing: no such program" in result.stdout


def test_expected_failure_is_no_skip(suite: Suite) -> None:
    suite.add("expected", "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_expected():\n    assert False\n")
    result = suite.run(script=False)
    assert (result.returncode, "1 passed, 1 xfailed" in result.stdout) == (0, True)


def test_suite_in_which_all_pass_is_green(suite: Suite) -> None:
    result = suite.run()
    assert (result.returncode, "FLAKY" in result.stdout) == (0, False)
    assert not suite.known.exists()


def test_test_that_fails_always_is_red(suite: Suite) -> None:
    suite.add("bad", _BAD)
    result = suite.run()
    assert result.returncode == 1
    assert "1 failed; once more, among the others of tests:" in result.stdout
    assert "FLAKY" not in result.stdout
    assert not suite.known.exists()


def test_test_that_fails_once_is_recorded_and_an_error_the_next_time(suite: Suite) -> None:
    suite.add("once", _ONCE)
    suite.known.write_text("# known\n2026-01-02 issue-7 tests/test_other.py::test_other[a b]\n")
    first = suite.run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "FLAKY: tests/test_once.py::test_once: find out why" in first.stdout
    *before, added = suite.known.read_text().splitlines()
    assert before == ["# known", "2026-01-02 issue-7 tests/test_other.py::test_other[a b]"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d issue-\? tests/test_once\.py::test_once", added)
    assert suite.run().returncode == 0  # it has not failed
    (suite.folder / "tests" / "seen").unlink()
    second = suite.run()
    assert second.returncode == 1
    assert "FLAKY, AGAIN: tests/test_once.py::test_once" in second.stdout
    assert suite.known.read_text().splitlines() == [*before, added]


def test_test_that_fails_in_company_only_is_red(suite: Suite) -> None:
    suite.add("in_company", _IN_COMPANY)
    assert suite.run(workers=1).returncode == 1
    assert not suite.known.exists()


def test_test_that_fails_alone_only_the_second_time_is_red(suite: Suite) -> None:
    alone = 'not seen.exists() or "PYTEST_XDIST_WORKER" not in __import__("os").environ'
    suite.add("once", _ONCE.replace("not seen.exists()", alone))
    result = suite.run(workers=1)
    assert (result.returncode, "Once more, alone:" in result.stdout) == (1, True)


def test_skip_beside_a_flaky_test_is_red(suite: Suite) -> None:
    suite.add("once", _ONCE)
    suite.add("skips", _SKIPS)
    result = suite.run()
    assert result.returncode == 1
    assert "FLAKY" not in result.stdout


def test_many_that_fail_are_not_run_again(suite: Suite) -> None:
    suite.add("bad", "".join(_BAD.replace("bad", f"bad{number}") for number in range(7)))
    result = suite.run()
    assert (result.returncode, "once more" in result.stdout) == (1, False)


def test_earlier_failures_are_not_this_runs(suite: Suite) -> None:
    suite.add("bad", _BAD)
    suite.run()
    suite.add("once", _ONCE)
    result = suite.run("tests/test_once.py", "tests/test_good.py", "-kgood or once")
    assert "1 failed; once more" in result.stdout
    assert (result.returncode, "FLAKY: tests/test_once.py::test_once" in result.stdout) == (0, True), result.stdout


def test_what_is_no_number_of_workers_is_refused(suite: Suite) -> None:
    result = subprocess.run([suite.folder / "scripts" / "test", "-v"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "usage: scripts/test WORKERS [PYTEST ARGUMENT]...\n")


def test_random_order_is_repeated_by_its_seed_and_keeps_files_together(suite: Suite) -> None:
    conftest = suite.folder / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "from tests.conftest import pytest_addoption, pytest_collection_modifyitems\n"
    )
    for name in ("a", "b", "c"):
        suite.add(name, "".join(f"def test_{number}():\n    pass\n" for number in range(5)))
    orders = [
        [line for line in suite.run("--collect-only", "-q", *options, script=False).stdout.splitlines() if "::" in line]
        for options in ((), ("--shuffle=1",), ("--shuffle=1",), ("--shuffle=2",))
    ]
    assert orders[1] == orders[2]
    assert orders[1] != orders[3]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order) == sorted(orders[0])
        files = [line.partition("::")[0] for line in order]
        assert len([file for at, file in enumerate(files) if at == 0 or files[at - 1] != file]) == 4


def test_order_names_files_that_there_are_and_takes_none_apart_whose_tests_share_something() -> None:
    assert len(set(LONGEST)) == len(LONGEST)
    assert [file for file in LONGEST if not (_CHECKOUT / "tests" / file).is_file()] == []
    assert set(LONGEST) >= APART
    shared = re.compile(r"fixture\([^)]*scope=")
    assert [file for file in APART if shared.search((_CHECKOUT / "tests" / file).read_text())] == []


def test_longest_files_begin_first_then_those_of_most_tests() -> None:
    small, large = Path("small.py"), Path("large.py")
    second, first = (_CHECKOUT / "tests" / file for file in LONGEST[1::-1])
    assert beginning([small, large, large, second, first, first]) == [first, second, large, small]


def test_test_all_knows_its_parts() -> None:
    result = subprocess.run([_CHECKOUT / "scripts" / "test-all", "everything"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Usage: scripts/test-all [pythons|newest|coverage|mutants|often|faults|machine]")


_WAITS = re.compile(
    r"\.(?:wait|join|communicate)\((?:timeout=)?(\d[\d.]*)\)|\btimeout=(\d[\d.]*)[,)]|settimeout\((\d[\d.]*)\)"
    r"|monotonic\(\) \+ (\d[\d.]*)"
)
_OF_ANOTHER_PROGRAM = (
    "urlopen('http",
    'urlopen("http',
    "HEALTHCHECK",
    "launcher.start(spec, stdin=0",
    "print(launcher.start(",
)
_SHORT_S = 5.0
"""Below this it is no bound against hanging: a pause, or a wait that is meant to end without the thing waited for."""


def test_bounds_against_hanging_are_stretched_on_a_slow_machine() -> None:
    """A literal number of seconds is right on one machine only: see tests/toolkit/bounds.py."""
    literal = [
        f"{path.relative_to(_CHECKOUT)}:{number}: {line.strip()}"
        for path in sorted((_CHECKOUT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if not any(words in line for words in _OF_ANOTHER_PROGRAM)
        for found in _WAITS.findall(line)
        if float(next(filter(None, found)).rstrip(".")) >= _SHORT_S
    ]
    assert literal == []


def test_bound_moves_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now, factor = [100.0], [1.0]
    monkeypatch.setattr(bounds, "slowness", lambda: factor[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    deadline = bounds.Deadline(10, "the moon")
    now[0] += 19
    assert not deadline.passed()
    factor[0] = 3.0
    now[0] += 40
    assert deadline
    now[0] += 2
    assert not deadline
    with pytest.raises(AssertionError, match="not within 60 s: the moon"):
        deadline.check()


def test_slow_machine_is_found_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, least, most in ((0.0, 1.0, 20.0), (6.0 * (os.cpu_count() or 1), 6.0, 20.0), (1e6, 20.0, 20.0)):
        monkeypatch.setattr(bounds, "_found", (-1e9, 1.0))
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert least <= bounds.slowness() <= most
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    assert bounds.slowness() == 20.0  # it is asked now and again only


def test_known_flaky_tests_have_a_date_and_an_issue_and_exist() -> None:
    lines = (_CHECKOUT / "tests" / "flaky.txt").read_text().splitlines()
    for line in [line for line in lines if not line.startswith("#")]:
        date, issue, name = line.split(maxsplit=2)
        datetime.date.fromisoformat(date)
        assert re.fullmatch(r"issue-\d+", issue), f"file an issue for it: {line}"
        path, _, function = name.partition("::")
        assert f"def {function.rpartition('::')[2].partition('[')[0]}(" in (_CHECKOUT / path).read_text(), line
