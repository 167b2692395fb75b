"""What deploys Shiplap is well-formed, keeps secrets in files, and gives privileges to the worker alone."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from core.settings import GitSettings, OidcSettings, RegistrySettings, ServiceSettings, Settings, StepSettings

_COMPOSE: Final = Path(__file__).resolve().parents[2] / "compose"
_SERVICES: Final = sorted((_COMPOSE / "systemd").glob("*.service"))
_UNITS: Final = [
    *_SERVICES,
    *(unit for kind in ("socket", "timer") for unit in sorted((_COMPOSE / "systemd").glob(f"*.{kind}"))),
]
_runtime = runpy.run_path(str(_COMPOSE / "runtime_requirements.py"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the directory, with secrets."""
    copy = tmp_path_factory.mktemp("deploy") / "compose"
    shutil.copytree(_COMPOSE, copy, ignore=shutil.ignore_patterns("secrets", ".env"))
    subprocess.run([copy / "prepare"], check=True, stdout=subprocess.PIPE)
    return copy


def configured(directory: Path, *more: str, **environment: str) -> dict[str, Any]:
    """The services of compose.yaml, and of files beside it, as docker-compose understands them."""
    files = [word for name in ("compose.yaml", *more) for word in ("--file", directory / name)]
    command: list[str | Path] = ["docker-compose", *files, "config", "--format", "json"]
    env = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run(command, check=True, capture_output=True, env=env)
    assert done.stderr == b""  # no warning of a variable that nobody has to set
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.fixture(scope="module")
def services(prepared: Path) -> dict[str, Any]:
    return configured(prepared)


def test_with_shiplaps_engine_the_worker_has_nothing_of_the_hosts(prepared: Path) -> None:
    services = configured(prepared, "compose.shiplap.yaml")
    assert [name for name, service in services.items() if service.get("privileged")] == ["worker"]
    assert "cgroup" not in services["worker"]  # Shiplap refuses that, and binds of the host's control groups
    assert {volume["target"] for volume in services["worker"]["volumes"]} == {"/var/lib/shiplap-worker", "/etc/shiplap"}


def test_only_the_worker_has_privileges(services: Mapping[str, Any]) -> None:
    for name in ("web", "migrate"):
        assert services[name]["user"] == "10001:10001"
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert services[name]["read_only"]
    for name, service in services.items():
        assert not service.get("privileged"), name
        assert "docker.sock" not in json.dumps(service), name
        assert name == "worker" or not service.get("cap_add"), name
    assert services["worker"]["cap_add"] == ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"]


def test_every_service_that_stays_is_watched(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) == (name != "migrate"), name


def test_secrets_are_files_and_nowhere_else(prepared: Path, services: Mapping[str, Any]) -> None:
    contents = {file.name: file.read_bytes().strip() for file in (prepared / "secrets").iterdir()}
    assert {name for name, content in contents.items() if not content} == {"metrics_token", "oidc_client_secret"}
    secrets = [content for content in contents.values() if content]
    assert len(set(secrets)) == 6
    text = json.dumps(services)
    assert not [secret for secret in secrets if secret.decode(errors="replace") in text]
    assert (prepared / "secrets").stat().st_mode & 0o777 == 0o700


def test_secrets_that_are_there_stay(prepared: Path) -> None:
    before = {file.name: file.read_bytes() for file in (prepared / "secrets").iterdir()}
    subprocess.run([prepared / "prepare"], check=True, stdout=subprocess.PIPE)
    assert {file.name: file.read_bytes() for file in (prepared / "secrets").iterdir()} == before


def test_settings_by_files_are_what_the_services_understand(prepared: Path, services: Mapping[str, Any]) -> None:
    for name in ("web", "worker", "migrate"):
        given = {variable: _in_place(prepared, value) for variable, value in services[name]["environment"].items()}
        settings = ServiceSettings.from_environ(given)
        assert settings.database_url.startswith("postgresql://shiplap:")
        assert settings.redis_url.startswith("redis://:")
        assert settings.web_token.startswith("shp_")
        assert settings.registry == "localhost:8080"
        assert settings.secret_key_file is not None
        assert len(settings.secret_key_file.read_bytes()) == 32


def _in_place(prepared: Path, value: str) -> str:
    return value.replace("/run/secrets", str(prepared / "secrets"))


def test_worker_has_no_log_in_to_the_registry(prepared: Path) -> None:
    """Each run has a token of its own; what is on the worker's disk would be every project's."""
    worker = configured(prepared)["worker"]
    assert {secret["source"] for secret in worker["secrets"]} == {
        "database_url", "redis_url", "secret_key", "worker_token",
    }  # fmt: skip
    assert not [path for path in (prepared / "secrets").iterdir() if "docker" in path.name]
    assert list((prepared / "config").iterdir()) == []  # what DOCKER_CONFIG names is below it


class Asked(dict[str, str]):
    """An environment that notes what is looked up in it, and has what lets everything be looked up."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def _read_by(*kinds: Any) -> set[str]:
    """The variables that these settings are read from."""
    asked = Asked(SHIPLAP_OIDC_ISSUER="https://id.example", SHIPLAP_OIDC_CLIENT_ID="x")
    for kind in kinds:
        kind.from_environ(asked)
    return asked.names


# What only workers look at, what compose.yaml itself decides, and what no service of it has a use for.
_WORKERS: Final = {
    "SHIPLAP_WORKER_LABELS", "SHIPLAP_SHARED_CACHE", "SHIPLAP_SHARED_CACHE_MOUNTS", "SHIPLAP_WEB_URL",
    "SHIPLAP_CACHE_MAX", "SHIPLAP_DENIED_NETWORKS",
}  # fmt: skip
_DECIDED: Final = {"SHIPLAP_ROOT", "SHIPLAP_WEB_URL", "DOCKER_CONFIG", "HOME"}
_NOT_OF_A_SERVICE: Final = {"SOURCE_DATE_EPOCH", "XDG_DATA_HOME", "HTTPS_PROXY", "NO_PROXY"}
_READ_BY: Final = {
    "web": _read_by(ServiceSettings, OidcSettings, RegistrySettings, GitSettings) - _WORKERS,
    "worker": _read_by(Settings, ServiceSettings, StepSettings, RegistrySettings)
    - {"SHIPLAP_TRUSTED_PROXIES", "SHIPLAP_METRICS_TOKEN", "SHIPLAP_METRICS_TOKEN_FILE"},
}
_SETTABLE: Final = set.union(*_READ_BY.values()) - _DECIDED - _NOT_OF_A_SERVICE


def _is_given(name: str, given: Mapping[str, str]) -> bool:
    """Whether a service gets a variable, or the file that is its other form."""
    return name in given or f"{name}_FILE" in given or name.removesuffix("_FILE") in given


@pytest.mark.parametrize("name", ["web", "worker"])
def test_every_setting_reaches_the_services_that_read_it(prepared: Path, name: str) -> None:
    values = {variable: f"of-{variable}" for variable in _SETTABLE}
    given = configured(prepared, **values)[name]["environment"]
    missing = {variable for variable in _READ_BY[name] - _NOT_OF_A_SERVICE - _DECIDED if not _is_given(variable, given)}
    assert not missing
    files = {variable for variable in given if variable.endswith("_FILE") and given[variable].startswith("/run/")}
    for variable in _READ_BY[name] & given.keys() - _DECIDED - files:
        assert given[variable].endswith(values[variable]), variable


@pytest.mark.parametrize("name", ["web", "worker"])
def test_what_is_not_set_counts_as_that(prepared: Path, services: Mapping[str, Any], name: str) -> None:
    given = {variable: _in_place(prepared, value) for variable, value in services[name]["environment"].items()}
    decided = {variable for variable, value in services[name]["environment"].items() if value}
    without = {variable: value for variable, value in given.items() if variable in decided}
    for kind in (ServiceSettings, OidcSettings, RegistrySettings, StepSettings, GitSettings):
        assert kind.from_environ(given) == kind.from_environ(without), kind
    assert Settings.from_environ(given).cache_max == Settings.from_environ({}).cache_max


def test_secrets_of_web_are_for_web_alone(prepared: Path) -> None:
    (prepared / "secrets" / "metrics_token").write_text("gauge\n")
    services = configured(prepared)
    given = {variable: _in_place(prepared, value) for variable, value in services["web"]["environment"].items()}
    assert ServiceSettings.from_environ(given).metrics_token == "gauge"
    (prepared / "secrets" / "metrics_token").write_text("")
    for name in ("worker", "migrate"):
        sources = {secret["source"] for secret in services[name]["secrets"]}
        assert not sources & {"metrics_token", "oidc_client_secret"}


def test_address_and_networks_are_chosen_by_the_environment(prepared: Path) -> None:
    services = configured(prepared, SHIPLAP_LISTEN="0.0.0.0:80", SHIPLAP_FRONT="10.9.8", SHIPLAP_IMAGE="ci/shiplap:2")
    assert services["web"]["ports"][0]["published"] == "80"
    assert services["web"]["environment"]["SHIPLAP_TRUSTED_PROXIES"] == "127.0.0.1,10.9.8.1"
    assert services["worker"]["environment"]["SHIPLAP_DENIED_NETWORKS"] == "10.9.8.0/24,172.31.99.0/24"
    assert {services[name]["image"] for name in ("web", "worker", "migrate")} == {"ci/shiplap:2"}


def test_units_are_what_systemd_understands(tmp_path: Path) -> None:
    for program in ("shiplap", "shiplap-restore"):
        (tmp_path / program).symlink_to(Path(sys.executable).with_name(program))
    for unit in _UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/", f"{tmp_path}/"))
    units = [tmp_path / unit.name for unit in _UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert not [line for line in done.stdout.splitlines() if str(tmp_path) in line]
    assert done.returncode == 0, done.stdout


def test_a_users_units_are_what_the_users_systemd_understands(tmp_path: Path) -> None:
    programs = str(Path(sys.executable).parent)
    units = []
    for unit in (_COMPOSE / "systemd" / "user").iterdir():
        units.append(tmp_path / unit.name)
        units[-1].write_text(unit.read_text().replace("%h/.local/bin", programs))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", *units],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert len(units) == 3
    assert not [line for line in done.stdout.splitlines() if str(tmp_path) in line], done.stdout


@pytest.mark.parametrize("name", ["shiplap", "shiplap-worker"])
def test_workers_find_log_ins_elsewhere_than_in_the_home_that_is_hidden(name: str) -> None:
    lines = (_COMPOSE / "systemd" / f"{name}.service").read_text().splitlines()
    assert "ProtectHome=yes" in lines
    assert "Environment=DOCKER_CONFIG=/etc/shiplap/docker" in lines


_BOUNDED: Final = [unit for unit in _SERVICES if unit.stem not in ("shiplap-restore", "shiplap-engine")]
"""What those start outlives them, and would inherit its bounds: containers have their own."""


@pytest.mark.parametrize("unit", _BOUNDED, ids=lambda unit: unit.stem)
def test_units_bound_rights_families_and_what_the_kernel_takes_first(unit: Path) -> None:
    names = {line.partition("=")[0] for line in unit.read_text().splitlines()}
    assert {"CapabilityBoundingSet", "RestrictAddressFamilies", "OOMScoreAdjust"} <= names


def test_migrations_run_at_each_start() -> None:
    """A unit that remains after its exit is started no second time, and web refuses the old schema for ever."""
    lines = (_COMPOSE / "systemd" / "shiplap-migrate.service").read_text().splitlines()
    assert not [line for line in lines if line.startswith("RemainAfterExit")]
    assert "StopWhenUnneeded=yes" in lines  # 0.1.0's unit remained, and remains until systemd has a reason to stop it


@pytest.mark.parametrize("name", ["shiplap", "shiplap-web", "shiplap-worker"])
def test_units_are_started_when_they_say_so(name: str) -> None:
    assert "Type=notify" in (_COMPOSE / "systemd" / f"{name}.service").read_text().splitlines()


def test_user_of_the_units_is_what_systemd_understands(tmp_path: Path) -> None:
    shutil.copytree(_COMPOSE / "systemd" / "sysusers.d", tmp_path / "etc" / "sysusers.d")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True)
    assert "shiplap:" in (tmp_path / "etc" / "passwd").read_text()


@pytest.mark.parametrize("name", ["shiplap-web", "shiplap-migrate", "shiplap-backup"])
def test_units_without_privileges_are_closed(name: str) -> None:
    """By systemd's own measure, of 10: what is below 3 counts as good."""
    unit = _COMPOSE / "systemd" / f"{name}.service"
    command: list[str | Path] = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=30", unit]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_image_gets_what_the_project_needs_and_no_tools() -> None:
    lock = _runtime["entries"]((_COMPOSE.parent / "requirements.lock").read_text())
    chosen = _runtime["needed"](lock, ())
    assert {"flask", "werkzeug", "sqlalchemy", "kombu", "packaging", "cffi"} <= set(chosen)
    assert not {"pytest", "ruff", "mypy", "hypothesis", "setuptools"} & set(chosen)
    assert all("--hash=sha256:" in lock[name] for name in chosen)


@pytest.mark.parametrize(
    ("comments", "wishes"),
    [
        ("    # via shiplap (pyproject.toml)\n", {"shiplap"}),
        ("    # via shiplap (pyproject.toml:dev)\n", set()),
        ("    # via\n    #   kombu\n    #   shiplap (pyproject.toml:dev)\n", {"kombu"}),
        ("    # via pytest\n", {"pytest"}),
    ],
)
def test_who_wishes_a_package_is_read_from_the_lock(comments: str, wishes: set[str]) -> None:
    assert _runtime["wished_by"](f"thing==1.0 \\\n    --hash=sha256:00\n{comments}") == wishes
