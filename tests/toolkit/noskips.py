"""A skipped test is a hole that nobody sees: it fails, everywhere. For ``conftest.py``, which imports the hooks."""

from __future__ import annotations

from collections.abc import Generator

import pytest

_WORDS = "skipped, and this suite skips nothing: "


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test, or one of its fixtures, that skips."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", _WORDS + _reason(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips as a whole."""
    report = yield
    if report.outcome == "skipped":
        report.outcome, report.longrepr = "failed", _WORDS + _reason(report.longrepr)
    return report


def _reason(longrepr: object) -> str:
    return longrepr[2].removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr)
