"""What the run's closing lines say of the cases.

In a module of its own: with several workers, the outermost conftest is the one whose hook is called at the end.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The line that closes the run: how many cases there were, and how many differ for a written reason."""
    reports = [
        dict(report.user_properties)
        for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
        if report.when == "call" and "differential" in dict(report.user_properties)
    ]
    if not reports:
        return
    counted = {kind: sum(report["differential"] == kind for report in reports) for kind in ("same", "differs", "wrong")}
    terminalreporter.write_line(
        f"differential: {len(reports)} cases against BuildKit, {counted['same']} the same, "
        f"{counted['differs']} differ for the reason written beside them, {counted['wrong']} differ without"
    )
