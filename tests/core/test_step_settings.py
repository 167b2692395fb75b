"""What the environment says a step may use."""

from __future__ import annotations

import os

import pytest

from core.errors import SettingsError
from core.settings import StepSettings


def test_without_a_word_no_step_takes_the_host_down() -> None:
    settings = StepSettings.from_environ({})
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < settings.memory_bytes < physical
    assert (settings.pids, settings.disk_bytes, settings.output_bytes) == (4096, 20 << 30, 4 << 30)
    assert settings.given == frozenset()


def test_what_is_asked_for_by_name_is_given() -> None:
    environ = {
        "SHIPLAP_STEP_MEMORY": "512m", "SHIPLAP_STEP_CPUS": "1.5", "SHIPLAP_STEP_PIDS": "0", "SHIPLAP_STEP_DISK": "0",
        "SHIPLAP_STEP_OUTPUT": "1k", "SHIPLAP_STEP_OUTPUT_RATE": "10", "SHIPLAP_DENIED_NETWORKS": "10.0.0.0/8",
    }  # fmt: skip
    given = frozenset({"memory", "cpu", "pids"})
    assert StepSettings.from_environ(environ) == StepSettings(512 << 20, 1.5, 0, 0, 1024, 10, given, "10.0.0.0/8")


@pytest.mark.parametrize(
    ("name", "value"), [("SHIPLAP_STEP_MEMORY", "much"), ("SHIPLAP_STEP_CPUS", "-1"), ("SHIPLAP_STEP_PIDS", "1e3")]
)
def test_nonsense_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        StepSettings.from_environ({name: value})
