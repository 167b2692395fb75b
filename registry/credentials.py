"""Credentials for registries, in docker's ``config.json`` and with docker's credential helpers.

Where a registry's credentials are: the helper that ``credHelpers`` names for it, else the one of ``credsStore``, else
``auths``. Members of the file that this module does not know stay as they are.

Sources: docker's "docker login" reference page; the protocol of ``docker-credential-NAME`` (get, store, erase).
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from core.files import write_atomically
from core.references import DEFAULT_DOMAIN
from registry.errors import CredentialsError

_DOCKER_KEY: Final = "https://index.docker.io/v1/"  # docker.io's name in this file, for historical reasons
DOCKER_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_IDENTITY: Final = "<token>"  # the user name by which helpers mark an identity token
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_TIMEOUT_S: Final = 60


class Credentials(NamedTuple):
    """A user with a password, or an identity token (OAuth2 refresh token), or a ready-made bearer token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        """Without what is secret."""
        return f"Credentials(username={self.username!r})"


class CredentialStore:
    """The credentials below ``directory``, by the domain of their registry: ``docker.io``, ``ci:5000``."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "config.json"

    def get(self, domain: str) -> Credentials | None:
        """The credentials to use, or None. Raises CredentialsError when file or helper cannot be used."""
        document = self._read()
        helper = _helper(document, domain)
        if helper:
            return _from_helper(helper, _key(domain))
        auths = _object(document, "auths", self.path)
        names = DOCKER_NAMES if domain == DEFAULT_DOMAIN else {domain}
        entry = auths.get(_key(domain)) or next((e for key, e in auths.items() if e and _host_of(key) in names), None)
        return _decoded(entry, domain, self.path) if entry else None

    def put(self, domain: str, credentials: Credentials) -> str:
        """Store them and return where: the file's path, or the helper's name. Raises CredentialsError."""
        document = self._read()
        key = _key(domain)
        helper = _helper(document, domain)
        auths = _object(document, "auths", self.path)
        if helper:
            secret = credentials.identity_token or credentials.password
            username = _IDENTITY if credentials.identity_token else credentials.username
            _call(helper, "store", json.dumps({"ServerURL": key, "Username": username, "Secret": secret}))
            auths[key] = {}  # says that somebody logged in here, as docker leaves it
        else:
            plain = f"{credentials.username}:{credentials.password}".encode()
            auths[key] = {"auth": base64.b64encode(plain).decode()}
            if credentials.identity_token:
                auths[key]["identitytoken"] = credentials.identity_token
        document["auths"] = auths
        self._write(document)
        return f"docker-credential-{helper}" if helper else str(self.path)

    def erase(self, domain: str) -> bool:
        """Forget them; whether there were any. Raises CredentialsError."""
        document = self._read()
        names = DOCKER_NAMES if domain == DEFAULT_DOMAIN else {domain}
        auths = _object(document, "auths", self.path)
        gone = [key for key in auths if key == _key(domain) or _host_of(key) in names]
        helper = _helper(document, domain)
        if helper and (gone or _from_helper(helper, _key(domain)) is not None):
            _call(helper, "erase", _key(domain))
        elif not gone:
            return False
        for key in gone:
            del auths[key]
        if gone:
            document["auths"] = auths
            self._write(document)
        return True

    def is_plain_text(self, domain: str) -> bool:
        """Whether ``put`` writes the password, merely encoded, into the file."""
        return not _helper(self._read(), domain)

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_bytes() or b"{}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except PermissionError as error:
            raise CredentialsError(
                f"cannot read {self.path}: {error.strerror}",
                hint="it holds registries' passwords; DOCKER_CONFIG names another directory for it",
            ) from error
        except ValueError as error:
            raise CredentialsError(f"{self.path} is no JSON: {error}", hint="repair it, or move it away") from error
        if not isinstance(document, dict):
            raise CredentialsError(f"{self.path}: expected a JSON object", hint="repair it, or move it away")
        return document

    def _write(self, document: dict[str, Any]) -> None:
        target = self.path.resolve()  # some keep the file elsewhere, with a link here
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(target, (json.dumps(document, indent="\t") + "\n").encode(), mode=0o600)
        except PermissionError as error:
            raise CredentialsError(
                f"cannot write {self.path}: {error.strerror}", hint="DOCKER_CONFIG names another directory for it"
            ) from error


def _key(domain: str) -> str:
    return _DOCKER_KEY if domain == DEFAULT_DOMAIN else domain


def _host_of(key: str) -> str:
    """Keys may be URLs, as old versions wrote them: ``https://host/v1/``."""
    return urlsplit(key if "://" in key else f"//{key}").netloc


def _object(document: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CredentialsError(f"{path}: {name}: expected an object", hint="repair it, or move it away")
    return value


def _helper(document: dict[str, Any], domain: str) -> str:
    helpers = document.get("credHelpers")
    names = [_key(domain), domain, *(sorted(DOCKER_NAMES) if domain == DEFAULT_DOMAIN else ())]
    named = next((helpers[name] for name in names if name in helpers), "") if isinstance(helpers, dict) else ""
    helper = str(named or document.get("credsStore") or "")
    if helper and not _HELPER_NAME.fullmatch(helper):
        raise CredentialsError(f"no name of a credential helper: {helper[:60]!r}")
    return helper


def _decoded(entry: object, domain: str, path: Path) -> Credentials:
    if not isinstance(entry, dict):
        raise CredentialsError(f"{path}: the entry of {domain} is no object", hint=f"shiplap login {domain} renews it")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            plain = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except ValueError as error:
            raise CredentialsError(
                f"{path}: the entry of {domain} is damaged", hint=f"shiplap login {domain} renews it"
            ) from error
        username, _, password = plain.partition(":")
        password = password.rstrip("\0")
    return Credentials(username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))


def _from_helper(helper: str, key: str) -> Credentials | None:
    answer = _call(helper, "get", key)
    if answer is None:
        return None
    try:
        found = json.loads(answer)
        username, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise CredentialsError(
            f"docker-credential-{helper} gave no credentials for {key}, but something else"
        ) from error
    return Credentials(identity_token=secret) if username == _IDENTITY else Credentials(username, secret)


def _call(helper: str, action: str, data: str) -> str | None:
    """Run the helper; None when it says that it has no credentials for this registry."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        result = subprocess.run(
            [program, action], input=data, capture_output=True, text=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise CredentialsError(
            f"the credential helper {program} is not installed",
            hint="install it, or take its name out of credsStore and credHelpers in docker's config.json",
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialsError(f"the credential helper {program} {action} failed: {error}") from error
    if result.returncode == 0:
        return result.stdout
    said = (result.stdout + result.stderr).strip()
    if "credentials not found" in said.lower():
        return None
    raise CredentialsError(f"the credential helper {program} {action} failed: {said[:300] or result.returncode}")
