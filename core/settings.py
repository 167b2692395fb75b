"""The one place that reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

from core.errors import SettingsError
from core.namespaces import is_initial
from core.quantities import parse_size

# Bytes. SQLite opens no path longer than 511, and the longest below a root is serve/service.db-journal.
_LONGEST_ROOT: Final = 480
_MOST_SOCKET_PATH: Final = 107  # bytes in sun_path, less the one that ends it: unix(7)


class CacheMax(NamedTuple):
    """A size: ``size_bytes`` if there is one, else a part of the disk in percent; 100: whatever there is."""

    size_bytes: int | None = None
    percent: int = 60

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``20g``, ``40%``, ``none`` or nothing. Raises SettingsError."""
        if not text:
            return cls()
        if text == "none":
            return cls(percent=100)
        if re.fullmatch(r"[1-9]\d?%|100%", text, re.ASCII):
            return cls(percent=int(text[:-1]))
        try:
            return cls(parse_size(text))
        except ValueError as error:
            raise SettingsError(
                f"SHIPLAP_CACHE_MAX is {text!r}", hint="it is a size (20g), a part of the disk (40%) or none"
            ) from error


class Settings(NamedTuple):
    """What the environment says.

    root: where all data lives (docs/architecture.md, "Data on disk"); always absolute.
    denied_networks: what containers are not to reach, as in ``10.0.0.0/8,192.168.0.0/16``.
    cache_max: what the build cache may take.
    uplink: how containers reach the outside: ``kernel``, ``pasta``, or the better one that works.
    """

    root: Path
    source_date_epoch: int | None = None
    denied_networks: str = ""
    cache_max: CacheMax = CacheMax()
    uplink: str = "auto"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, *, root: str | None = None) -> Self:
        """Read ``SHIPLAP_ROOT`` (``root`` beats it), ``SOURCE_DATE_EPOCH``, ``SHIPLAP_DENIED_NETWORKS``,
        ``SHIPLAP_CACHE_MAX``, ``SHIPLAP_UPLINK``.

        Raises SettingsError.
        """
        env = os.environ if environ is None else environ
        data = _root(env, root)
        epoch_text = env.get("SOURCE_DATE_EPOCH", "")
        if epoch_text and not (epoch_text.isascii() and epoch_text.isdigit()):
            raise SettingsError(
                f"SOURCE_DATE_EPOCH is {epoch_text!r}", hint="it is a number of seconds since 1970-01-01 UTC"
            )
        return cls(
            data,
            int(epoch_text) if epoch_text else None,
            env.get("SHIPLAP_DENIED_NETWORKS", ""),
            CacheMax.parse(env.get("SHIPLAP_CACHE_MAX", "")),
            _uplink(env),
        )


class RegistrySettings(NamedTuple):
    """What the environment says of registries.

    docker_config: the directory of docker's ``config.json``.
    insecure_registries: HOST[:PORT] or address ranges that may be spoken to without TLS, or with certificates that
    nobody vouches for.
    http_proxy, https_proxy: URLs, for registries of that scheme.
    no_proxy: hosts that need none, commas between; ``.domain`` and ``*`` as customary.
    keep_pulled_gzip: keep the compressed form that a pulled layer came in, where its registry would give it again, too.
    """

    docker_config: Path
    insecure_registries: tuple[str, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    keep_pulled_gzip: bool = True

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``DOCKER_CONFIG``, ``SHIPLAP_INSECURE_REGISTRIES`` (commas between), the proxy variables and
        ``SHIPLAP_KEEP_PULLED_GZIP``. Raises SettingsError."""
        env = os.environ if environ is None else environ
        insecure = [entry.strip() for entry in env.get("SHIPLAP_INSECURE_REGISTRIES", "").split(",")]
        return cls(
            _path(env, env.get("DOCKER_CONFIG") or "~/.docker"),
            tuple(entry for entry in insecure if entry),
            env.get("http_proxy", ""),  # lower case only: HTTP_PROXY may come from a request's header (httpoxy)
            env.get("https_proxy") or env.get("HTTPS_PROXY", ""),
            env.get("no_proxy") or env.get("NO_PROXY", ""),
            _switch(env, "SHIPLAP_KEEP_PULLED_GZIP", default=True),
        )


class RemoteSettings(NamedTuple):
    """What the environment says of build services.

    host: a URL or the name of a context, empty for none.
    token: beats every stored one.
    config, cache: directories of this user's, for ``contexts.json`` and for what can be found out again.
    """

    host: str
    token: str
    config: Path
    cache: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, *, host: str | None = None) -> Self:
        """Read ``SHIPLAP_HOST`` (``host`` beats it), ``SHIPLAP_TOKEN``, ``XDG_CONFIG_HOME`` and ``XDG_CACHE_HOME``."""
        env = os.environ if environ is None else environ
        config = _path(env, _xdg(env, "XDG_CONFIG_HOME") or "~/.config") / "shiplap"
        cache = _path(env, _xdg(env, "XDG_CACHE_HOME") or "~/.cache") / "shiplap"
        return cls(
            host if host is not None else env.get("SHIPLAP_HOST", ""), env.get("SHIPLAP_TOKEN", ""), config, cache
        )


class ServiceSettings(NamedTuple):
    """What the environment says to the processes of the service.

    database_url: ``sqlite:///PATH`` or ``postgresql://…``.
    redis_url: ``unix://PATH`` or ``redis[s]://…``.
    registry: HOST[:PORT] that runs push to; empty keeps images in the worker's store.
    worker_labels: what runs may ask of a worker.
    git_allowed_hosts: hosts that may be cloned from although their addresses are private.
    secret_key_file: what secrets are encrypted with; None: ``ROOT/serve/secret.key``.
    web_url, web_token: where a worker fetches bare repositories from, and contexts that are not below its own root;
    empty: all are below it.
    public_url: where people reach the pages, as links in statuses and invitations have it; empty: as requests do.
    trusted_proxies: addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed.
    git_ca_file: certificates to trust, instead of the system's, when repositories are fetched and runs are reported to
    forges; None: the system's.
    shared_cache: whether workers share the build cache through ``registry``.
    shared_cache_mounts: IDs of cache mounts that the runs of all projects have in common, but for forks.
    metrics_token: what ``/metrics`` asks for; empty: it asks for nothing.
    project_outputs_max: bytes of outputs for people that a host keeps for one project; 0: as many as the disk has.
    outputs_url: the host on which scripts of HTML pages that jobs made may run; empty: they run nowhere.
    backup_dir: where the web process puts the backups that administrators ask for; None: it makes none.
    backup_keep: so many of these stay, the newest; 0: all.
    engine: the path of the socket of the engine whose containers the pages show; empty: they show none.
    """

    root: Path
    database_url: str
    redis_url: str
    registry: str = ""
    worker_labels: tuple[str, ...] = ()
    git_allowed_hosts: tuple[str, ...] = ()
    secret_key_file: Path | None = None
    web_url: str = ""
    web_token: str = ""
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")
    git_ca_file: Path | None = None
    shared_cache: bool = True
    shared_cache_mounts: tuple[str, ...] = ()
    metrics_token: str = ""
    outputs_url: str = ""
    project_outputs_max: int = 0
    backup_dir: Path | None = None
    backup_keep: int = 7
    engine: str = ""

    @property
    def key_file(self) -> Path:
        """What secrets are encrypted with."""
        return self.secret_key_file or self.root / "serve" / "secret.key"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, *, root: str | None = None) -> Self:
        """Read ``SHIPLAP_ROOT``, and ``SHIPLAP_`` with the members' names: ``SHIPLAP_REDIS_URL``; lists have commas.

        By default the database is SQLite and Redis a socket, both below ``ROOT/serve``. URLs and tokens may be in
        files: ``SHIPLAP_DATABASE_URL_FILE``. Raises SettingsError when such a file cannot be read.
        """
        env = os.environ if environ is None else environ
        data = Settings.from_environ(env, root=root).root
        key_file, ca_file = env.get("SHIPLAP_SECRET_KEY_FILE"), env.get("SHIPLAP_GIT_CA_FILE")
        return cls(
            data,
            _secret(env, "SHIPLAP_DATABASE_URL") or f"sqlite:///{data}/serve/service.db",
            _secret(env, "SHIPLAP_REDIS_URL") or f"unix://{data}/serve/redis/redis.sock",
            env.get("SHIPLAP_REGISTRY", ""),
            _listed(env.get("SHIPLAP_WORKER_LABELS", "")),
            _listed(env.get("SHIPLAP_GIT_ALLOWED_HOSTS", "")),
            _path(env, key_file) if key_file else None,
            env.get("SHIPLAP_WEB_URL", "").rstrip("/"),
            _secret(env, "SHIPLAP_WEB_TOKEN"),
            env.get("SHIPLAP_PUBLIC_URL", "").rstrip("/"),
            _listed(env.get("SHIPLAP_TRUSTED_PROXIES", "127.0.0.0/8,::1")),
            _path(env, ca_file) if ca_file else None,
            _switch(env, "SHIPLAP_SHARED_CACHE", default=True),
            _listed(env.get("SHIPLAP_SHARED_CACHE_MOUNTS", "")),
            _secret(env, "SHIPLAP_METRICS_TOKEN"),
            _outputs_url(env),
            _size(env, "SHIPLAP_PROJECT_OUTPUTS_MAX", 0),
            _backup_dir(env),
            _count(env, "SHIPLAP_BACKUP_KEEP", 7),
            _engine(env),
        )


def variables_that_are_set(names: Iterable[str]) -> dict[str, str]:
    """Those of these variables that the environment has, with their values; what is empty counts as not set."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _backup_dir(env: Mapping[str, str]) -> Path | None:
    text = env.get("SHIPLAP_BACKUP_DIR", "")
    if text and not text.startswith(("/", "~")):
        raise SettingsError(f"SHIPLAP_BACKUP_DIR is {text!r}", hint="write the whole path of a directory")
    return _path(env, text) if text else None


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if text and not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII):
        raise SettingsError(f"{name} is {text!r}", hint="it is a number")
    return int(text) if text else default


def _engine(env: Mapping[str, str]) -> str:
    """``SHIPLAP_ENGINE``: what ``shiplap engine`` prints for DOCKER_HOST, when that is a unix socket."""
    text = env.get("SHIPLAP_ENGINE", "")
    path = text.removeprefix("unix://")
    if text and not path.startswith("/"):
        raise SettingsError(f"SHIPLAP_ENGINE is {text!r}", hint="it is an engine's socket: unix:///PATH")
    if len(os.fsencode(path)) > _MOST_SOCKET_PATH:
        raise SettingsError(f"SHIPLAP_ENGINE has more than the {_MOST_SOCKET_PATH} bytes of a socket's path")
    return path


def _outputs_url(env: Mapping[str, str]) -> str:
    """``SHIPLAP_OUTPUTS_URL``. Cookies know no ports, so the host is another one than the service's."""
    url = env.get("SHIPLAP_OUTPUTS_URL", "").rstrip("/")
    if not url:
        return ""
    from urllib.parse import urlsplit  # not at the top: every command imports this module

    public = urlsplit(env.get("SHIPLAP_PUBLIC_URL", ""))
    try:
        parts = urlsplit(url)
        more = parts.path or parts.query or parts.fragment or "@" in parts.netloc or parts.port == 0  # raises, too
        is_host = parts.scheme in ("http", "https") and bool(parts.hostname) and not more
    except ValueError:
        is_host = False
    if not is_host:
        raise SettingsError(
            f"SHIPLAP_OUTPUTS_URL is {url!r}", hint="it is a scheme and a host: https://outputs.example.org"
        )
    if parts.hostname == public.hostname:
        raise SettingsError(
            f"SHIPLAP_OUTPUTS_URL and SHIPLAP_PUBLIC_URL have the same host, {parts.hostname}",
            hint="scripts of jobs need a host of their own, to which no cookie of the service goes",
        )
    return url


class FetchSettings(NamedTuple):
    """What the environment says of fetching git repositories from elsewhere.

    time_s: how long one repository may take.
    file_bytes: the largest file that git may write, such as a pack with all history.
    """

    time_s: int = 600
    file_bytes: int = 4 << 30

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``SHIPLAP_FETCH_TIME`` (seconds) and ``SHIPLAP_FETCH_FILE_MAX`` (a size as in ``4g``).

        Raises SettingsError.
        """
        env = os.environ if environ is None else environ
        usual = cls()
        time_s = int(_number(env, "SHIPLAP_FETCH_TIME", usual.time_s))
        file_bytes = _size(env, "SHIPLAP_FETCH_FILE_MAX", usual.file_bytes)
        for name, value in (("SHIPLAP_FETCH_TIME", time_s), ("SHIPLAP_FETCH_FILE_MAX", file_bytes)):
            if not value:
                raise SettingsError(
                    f"{name} is {env[name]!r}", hint="a server must not hold a run for ever: it is above 0"
                )
        return cls(time_s, file_bytes)


def user_directories(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where a program finds what its user has set: ``HOME`` and ``XDG_CONFIG_HOME``, as far as they are set."""
    env = os.environ if environ is None else environ
    found = {"HOME": env.get("HOME", ""), "XDG_CONFIG_HOME": _xdg(env, "XDG_CONFIG_HOME")}
    return {name: value for name, value in found.items() if value.startswith("/")}


class GitSettings(NamedTuple):
    """What the environment says of serving the repositories of ROOT/git over HTTP.

    push_max_bytes: of one push; 0 is no limit.
    time_s: how long one request may take.
    at_once: how many are answered at the same time.
    """

    push_max_bytes: int = 2 << 30
    time_s: int = 3600
    at_once: int = 16

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``SHIPLAP_GIT_PUSH_MAX`` (a size as in ``2g``), ``_GIT_TIME`` and ``_GIT_AT_ONCE``.

        Raises SettingsError.
        """
        env = os.environ if environ is None else environ
        usual = cls()
        return cls(
            _size(env, "SHIPLAP_GIT_PUSH_MAX", usual.push_max_bytes),
            max(1, int(_number(env, "SHIPLAP_GIT_TIME", usual.time_s))),
            max(1, int(_number(env, "SHIPLAP_GIT_AT_ONCE", usual.at_once))),
        )


class StepSettings(NamedTuple):
    """What the environment says a step of the service's runs may use; 0 is no limit.

    ``builder.request.limits.StepLimits`` is made of it.

    The defaults keep a step from taking the host down: three quarters of the memory that there is (the machine's, or
    the smallest limit of the process' control groups), 4096 processes, 20 GiB of disk and 4 GiB of output.
    given: the controllers (``memory``, ``cpu``, ``pids``) of those that were asked for by name.
    denied_networks: as in Settings.
    uplink: as in Settings.
    """

    memory_bytes: int
    cpus: float = 0.0
    pids: int = 4096
    disk_bytes: int = 20 << 30
    output_bytes: int = 4 << 30
    output_rate: int = 0
    given: frozenset[str] = frozenset()
    denied_networks: str = ""
    uplink: str = "auto"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, *, memory_bytes: int | None = None) -> Self:
        """Read ``SHIPLAP_STEP_MEMORY``, ``_CPUS``, ``_PIDS``, ``_DISK``, ``_OUTPUT`` and ``_OUTPUT_RATE``.

        Sizes as in ``2g``. memory_bytes: how much there is. Raises SettingsError.
        """
        env = os.environ if environ is None else environ
        if memory_bytes is None:
            from core.memory import memory_limit  # not at the top: all commands import this module

            memory_bytes = memory_limit().memory_bytes
        named = {"memory": "SHIPLAP_STEP_MEMORY", "cpu": "SHIPLAP_STEP_CPUS", "pids": "SHIPLAP_STEP_PIDS"}
        return cls(
            _size(env, "SHIPLAP_STEP_MEMORY", memory_bytes * 3 // 4),
            _number(env, "SHIPLAP_STEP_CPUS", 0.0),
            int(_number(env, "SHIPLAP_STEP_PIDS", 4096)),
            _size(env, "SHIPLAP_STEP_DISK", 20 << 30),
            _size(env, "SHIPLAP_STEP_OUTPUT", 4 << 30),
            _size(env, "SHIPLAP_STEP_OUTPUT_RATE", 0),
            frozenset(controller for controller, name in named.items() if env.get(name)),
            env.get("SHIPLAP_DENIED_NETWORKS", ""),
            _uplink(env),
        )


class OidcSettings(NamedTuple):
    """What the environment says of a provider of identities (OpenID Connect).

    issuer: a URL; empty: there is none.
    roles: (value, role) pairs. Whoever has the value in the claim ``role_claim`` gets the role, of several the highest.
    The value ``*`` fits everybody. Nobody gets in without a pair that fits.
    name: what the button says.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    role_claim: str = "groups"
    roles: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``SHIPLAP_OIDC_`` with the members' names; ``SHIPLAP_OIDC_ROLES=ops=admin,*=viewer``; the client's
        secret may be in a file, ``SHIPLAP_OIDC_CLIENT_SECRET_FILE``. Raises SettingsError.
        """
        env = os.environ if environ is None else environ
        issuer = env.get("SHIPLAP_OIDC_ISSUER", "")
        if not issuer:
            return cls()
        if not issuer.startswith(("https://", "http://localhost:", "http://127.0.0.1:")):
            raise SettingsError(f"SHIPLAP_OIDC_ISSUER is {issuer!r}", hint="it begins with https://")
        client_id = env.get("SHIPLAP_OIDC_CLIENT_ID", "")
        if not client_id:
            raise SettingsError("SHIPLAP_OIDC_ISSUER is set, SHIPLAP_OIDC_CLIENT_ID is not", hint="the provider has it")
        scopes = (env.get("SHIPLAP_OIDC_SCOPES") or "openid profile email").replace(",", " ").split()
        return cls(
            issuer,
            client_id,
            _secret(env, "SHIPLAP_OIDC_CLIENT_SECRET"),
            tuple(dict.fromkeys(["openid", *scopes])),
            env.get("SHIPLAP_OIDC_ROLE_CLAIM") or "groups",
            tuple(_role(entry) for entry in _listed(env.get("SHIPLAP_OIDC_ROLES", ""))),
            env.get("SHIPLAP_OIDC_NAME") or issuer.partition("://")[2].partition("/")[0],
        )


def _role(entry: str) -> tuple[str, str]:
    value, _, role = entry.rpartition("=")
    if not value or role not in ("guest", "viewer", "member", "admin"):
        raise SettingsError(
            f"SHIPLAP_OIDC_ROLES has {entry!r}",
            hint="write VALUE=ROLE, commas between; a role is guest, viewer, member or admin",
        )
    return value, role


def _secret(env: Mapping[str, str], name: str) -> str:
    """A variable's value, or the content of the file that the variable ``NAME_FILE`` names."""
    path = env.get(f"{name}_FILE")
    if env.get(name) or not path:
        return env.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}_FILE names {path}, which cannot be read: {error}") from error


def _switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "").lower()
    if text not in ("", "on", "off"):
        raise SettingsError(f"{name} is {text!r}", hint="it is on or off")
    return default if not text else text == "on"


def _size(env: Mapping[str, str], name: str, default: int) -> int:
    try:
        return parse_size(env[name]) if env.get(name) else default
    except ValueError as error:
        raise SettingsError(f"{name}: {error}", hint="write 512m or 2g; 0 is no limit") from error


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        raise SettingsError(f"{name} is {text!r}", hint="it is a number; 0 is no limit")
    return float(text)


def _uplink(env: Mapping[str, str]) -> str:
    text = env.get("SHIPLAP_UPLINK", "") or "auto"
    if text not in ("auto", "kernel", "pasta"):
        raise SettingsError(f"SHIPLAP_UPLINK is {text!r}", hint="it is auto, kernel or pasta")
    return text


def _listed(text: str) -> tuple[str, ...]:
    return tuple(entry for part in text.split(",") if (entry := part.strip()))


def _root(env: Mapping[str, str], given: str | None) -> Path:
    """Where all data lives. given: on the command line; a relative path counts from the working directory."""
    named = env.get("SHIPLAP_ROOT", "")
    if not given and named and not named.startswith(("/", "~")):
        raise SettingsError(
            f"SHIPLAP_ROOT is {named!r}, which would be another place in each directory",
            hint=f"write the whole path: SHIPLAP_ROOT={Path(named).absolute()}",
        )
    root = _path(env, given or named or _default_root(env))
    length = len(os.fsencode(root))
    if length > _LONGEST_ROOT:
        raise SettingsError(
            f"the root's path is too long: {length} bytes, and {_LONGEST_ROOT} are the most: {str(root)[:60]}…",
            hint="choose a shorter one with --root DIR or SHIPLAP_ROOT",
        )
    return root


def _default_root(env: Mapping[str, str]) -> str:
    if os.geteuid() == 0 and is_initial():
        return "/var/lib/shiplap"
    return f"{_xdg(env, 'XDG_DATA_HOME') or '~/.local/share'}/shiplap"


def _xdg(env: Mapping[str, str], name: str) -> str:
    """A directory's variable. A path that is not absolute is invalid, and ignored: XDG Base Directory Specification."""
    text = env.get(name, "")
    return text if text.startswith("/") else ""


def runtime_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """``XDG_RUNTIME_DIR``: where an ordinary user's sockets live until they log out; None where there is none."""
    text = _xdg(os.environ if environ is None else environ, "XDG_RUNTIME_DIR")
    return Path(text) if text else None


def _path(env: Mapping[str, str], text: str) -> Path:
    """``text`` as an absolute path; ``~`` is the user's home directory. Raises SettingsError."""
    if text == "~" or text.startswith("~/"):
        return Path(_home(env) + text[1:])
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~NAME
        raise SettingsError(f"no home directory is known for {text}") from error


def _home(env: Mapping[str, str]) -> str:
    home = env.get("HOME", "")
    if not home:
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise SettingsError(
                f"HOME is not set, and nobody knows a user {os.getuid()} who might have a home directory",
                hint="set HOME to a directory of this user's: HOME=/srv/builder shiplap …",
            ) from None
    if not home.startswith("/"):
        raise SettingsError(f"HOME is {home!r}, which is no absolute path", hint="set HOME to a directory of yours")
    return home.rstrip("/")
