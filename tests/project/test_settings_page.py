"""docs/settings.md: every setting once, made from the code, true."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ci.facts import FACTS
from core.settings import (
    FetchSettings,
    GitSettings,
    OidcSettings,
    RegistrySettings,
    RemoteSettings,
    ServiceSettings,
    Settings,
    StepSettings,
)
from core.variables import GROUPS, INTERNAL, Variable, names
from tests.toolkit.bounds import stretched

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_KINDS: Final = (
    Settings, RegistrySettings, RemoteSettings, ServiceSettings, StepSettings, OidcSettings, GitSettings, FetchSettings,
)  # fmt: skip
_PROVIDER: Final = {"SHIPLAP_OIDC_ISSUER": "https://id.example", "SHIPLAP_OIDC_CLIENT_ID": "x", "HOME": "/home/me"}
_VARIABLES: Final = [variable for group in GROUPS for variable in group.variables]
_ROOMS: Final = ("core", "images", "containers", "registry", "builder", "engine", "pipelines", "web", "worker", "cli")
_OURS: Final = re.compile(r"SHIPLAP_[A-Z]+(?:_[A-Z]+)*")


class Asked(dict[str, str]):
    """An environment that notes what is looked up in it."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)


def _literals() -> Iterator[tuple[str, str]]:
    """The text constants of the rooms' code that are names of ours, each with its file."""
    for room in _ROOMS:
        for path in (_CHECKOUT / room).rglob("*.py"):
            if path.name == "variables.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node.value in FACTS:
                    continue  # variables of jobs are no settings
                if _OURS.fullmatch(node.value):
                    yield node.value, str(path.relative_to(_CHECKOUT))


def test_page_is_what_the_script_makes_of_the_code() -> None:
    made = subprocess.run(
        [_CHECKOUT / "scripts" / "settings-document", "--print"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=stretched(60),
        env={**os.environ, "VENV": os.environ.get("VENV", str(_CHECKOUT / ".venv"))},
    ).stdout  # fmt: skip
    assert made == (_CHECKOUT / "docs" / "settings.md").read_text(), "run scripts/settings-document"


def test_everything_that_settings_look_up_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(_PROVIDER)
    for user in (0, 1000):  # others have another root
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        for kind in _KINDS:
            kind.from_environ(asked)
    assert "SHIPLAP_METRICS_TOKEN_FILE" in asked.names
    assert asked.names <= names()


def test_every_name_in_the_code_has_its_row() -> None:
    missing = {name: file for name, file in _literals() if name not in names() | INTERNAL}
    assert not missing


@pytest.mark.parametrize("path", ["compose/compose.yaml", *sorted(
    str(path.relative_to(_CHECKOUT)) for path in (_CHECKOUT / "compose" / "systemd").glob("*.service")
)])  # fmt: skip
def test_every_name_in_compose_and_units_has_its_row(path: str) -> None:
    assert set(_OURS.findall((_CHECKOUT / path).read_text())) <= names()


def test_every_row_is_of_a_variable_that_something_reads() -> None:
    files = [path for room in _ROOMS for path in (_CHECKOUT / room).rglob("*.py") if path.name != "variables.py"]
    files += [_CHECKOUT / "compose" / "compose.yaml", *(_CHECKOUT / "compose" / "systemd").glob("*.service")]
    text = "\n".join(path.read_text() for path in files)
    unread = [
        variable.name
        for variable in _VARIABLES
        if variable.name not in text and variable.name.removeprefix("SHIPLAP_OIDC_") not in text
    ]
    assert unread == []


def test_each_variable_has_one_row() -> None:
    count = Counter(variable.name for variable in _VARIABLES)
    assert [name for name in count if count[name] > 1] == []


def _read(environ: dict[str, str]) -> list[Any]:
    given = {**_PROVIDER, **environ}
    service = ServiceSettings.from_environ(given, root="/r")
    found: list[Any] = [Settings.from_environ(given, root="/r"), service._replace(secret_key_file=service.key_file)]
    found += [kind.from_environ(given) for kind in (RegistrySettings, OidcSettings, GitSettings)]
    return [*found, StepSettings.from_environ(given)._replace(given=frozenset())]


@pytest.mark.parametrize(
    "variable",
    [
        variable
        for variable in _VARIABLES
        if re.fullmatch(r"`[^`]+`", variable.default) and not variable.name.startswith(("XDG_", "HOME"))
    ],
    ids=lambda variable: variable.name,
)
def test_default_that_is_written_is_the_default(variable: Variable) -> None:
    assert _read({variable.name: variable.default.strip("`").replace("ROOT", "/r")}) == _read({})


@pytest.mark.parametrize(
    "variable", [variable for variable in _VARIABLES if variable.in_file], ids=lambda variable: variable.name
)
def test_value_may_be_in_a_file_where_the_page_says_so(variable: Variable, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("some value\n")
    given = _read({variable.name: "some value"})
    assert _read({f"{variable.name}_FILE": str(file)}) == given != _read({})


def test_links_lead_to_the_settings_instead_of_repeating_them() -> None:
    """A table of variables is in one document."""
    tables = [
        path.name
        for path in sorted((_CHECKOUT / "docs").glob("*.md"))
        if path.name != "settings.md"
        and names() & set(re.findall(r"^\| `(SHIPLAP_\w+)", path.read_text(), re.MULTILINE))
    ]
    assert tables == []
