"""Git repositories as the source of a run: fetched shallowly, by a git that can do little else.

- https and ssh only; the host is resolved once, its address pinned, and private, link-local and other special
  addresses are refused unless the administrator allows the host; no redirects are followed.
- No hooks, no submodules, no filters, no configuration but ours; what the user wrote never is an option.
- git runs as nobody, without privileges to gain, in mount, process and IPC namespaces of its own that end with it, with
  limits on time and on the size of files, and may write to one directory only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from core.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from pipelines.errors import InvalidRequestError, SourceError
from pipelines.model import GitSource

Resolve = Callable[[str, int], Sequence[str]]

_PORTS: Final = {"https": 443, "ssh": 22}
_SCP: Final = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^/].*)")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # no option of ssh
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NOBODY: Final = 65534
_TIMEOUT_S: Final = 600
_MAX_FILE_BYTES: Final = 4 << 30
_POLL_S: Final = 0.1
_MOUNTED: Final = "/mnt"  # where git sees its directory, whose own path nobody may walk
_SHOWN_BYTES: Final = 2000


class Remote(msgspec.Struct, frozen=True):
    """A URL that was checked. url: as git gets it."""

    url: str
    scheme: str
    host: str
    port: int


class Checkout(msgspec.Struct, frozen=True):
    """What was fetched. context: the directory to build. branch, tag: which of them the ref was, if it was one."""

    context: Path
    commit: str
    branch: str = ""
    tag: str = ""


def parse_url(url: str) -> Remote:
    """Check a clone URL. Raises InvalidRequestError. No credentials in it: they would be shown everywhere."""
    scp = _SCP.fullmatch(url)
    if scp:
        url = f"ssh://{scp['user']}@{scp['host']}/{scp['path']}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequestError(f"invalid git URL {url[:200]!r}: {error}") from error
    if parts.scheme not in _PORTS:
        raise InvalidRequestError(f"git URLs of kind {parts.scheme or 'path'!r} are not fetched", hint=_URL_HINT)
    if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
        raise InvalidRequestError("a git URL must not contain a password or token", hint=_URL_HINT)
    if parts.username is not None and not _USER.fullmatch(parts.username):
        raise InvalidRequestError(f"invalid user in git URL {url[:200]!r}")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or not parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidRequestError(f"invalid git URL {url[:200]!r}", hint=_URL_HINT)
    if any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in url):
        raise InvalidRequestError("a git URL has no spaces and no control characters")
    return Remote(url, parts.scheme, host, port or _PORTS[parts.scheme])


_URL_HINT: Final = "write https://HOST/PATH or ssh://USER@HOST/PATH, without passwords"


def pin_address(remote: Remote, *, allowed_hosts: Sequence[str], resolve: Resolve | None = None) -> str:
    """The one address to connect to. Raises SourceError when it may not be reached, or there is none."""
    try:
        addresses = [ipaddress.ip_address(text) for text in (resolve or _resolve)(remote.host, remote.port)]
    except OSError as error:
        raise SourceError(f"cannot find the address of {remote.host}: {error}") from error
    if not addresses:
        raise SourceError(f"{remote.host} has no address")
    if remote.host not in allowed_hosts:
        for address in addresses:
            mapped = getattr(address, "ipv4_mapped", None) or address
            if not mapped.is_global or mapped.is_multicast:
                raise SourceError(
                    f"{remote.host} has the address {address}, which is not a public one",
                    hint="the administrator can allow the host in SHIPLAP_GIT_ALLOWED_HOSTS",
                )
    return str(addresses[0])


def fetch_git(
    source: GitSource,
    directory: Path,
    *,
    allowed_hosts: Sequence[str] = (),
    cancelled: threading.Event | None = None,
    resolve: Resolve | None = None,
    ca_file: str | None = None,
) -> Checkout:
    """Fetch one commit into ``directory``, which is made. ca_file: certificates to trust instead of the system's.

    Raises InvalidRequestError and SourceError; SourceError too once ``cancelled`` is set.
    """
    remote = parse_url(source.url)
    if source.ref and (not _REF.fullmatch(source.ref) or ".." in source.ref):
        raise InvalidRequestError(f"invalid git ref {source.ref[:100]!r}")
    address = pin_address(remote, allowed_hosts=allowed_hosts, resolve=resolve)
    directory.mkdir(mode=0o700)
    tree = directory / "tree"
    tree.mkdir(mode=0o700)
    os.chown(tree, _NOBODY, _NOBODY)
    git = _Git(tree, _environment(remote, address), _settings(remote, address, ca_file), cancelled)
    git.run("init", "--quiet", "--template=", ".")
    wanted, branch, tag = _wanted(git, remote, source.ref)
    git.run("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", remote.url, wanted)
    commit = git.run("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}").strip()
    git.run("checkout", "--quiet", "--detach", "--no-recurse-submodules", commit)
    shutil.rmtree(tree / ".git")
    return Checkout(_subdirectory(tree, source.subdirectory), commit, branch, tag)


def _wanted(git: _Git, remote: Remote, ref: str) -> tuple[str, str, str]:
    """What to fetch, and whether it is a branch or a tag."""
    if not ref:
        return "HEAD", _head_branch(git.run("ls-remote", "--symref", "--", remote.url, "HEAD")), ""
    if _COMMIT.fullmatch(ref):
        return ref, "", ""
    candidates = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    listed = {line.split("\t")[1] for line in git.run("ls-remote", "--", remote.url, *candidates).splitlines()}
    for full in candidates:
        if full in listed:
            short = full.partition("/")[2].partition("/")[2]
            return full, short if full.startswith("refs/heads/") else "", short if "/tags/" in full else ""
    raise SourceError(f"{remote.url} has no branch, tag or commit {ref!r}")


def _head_branch(answer: str) -> str:
    match = re.match(r"ref: refs/heads/(\S+)\tHEAD", answer)
    return match[1] if match else ""


def _subdirectory(tree: Path, subdirectory: str) -> Path:
    """Confined by the kernel; a link in the path is refused."""
    if not subdirectory:
        return tree
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = openat2(root, subdirectory, os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise SourceError(f"the repository has no directory {subdirectory!r}: {error.strerror}") from error
    finally:
        os.close(root)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_directory:
        raise SourceError(f"{subdirectory!r} in the repository is not a directory")
    return tree / os.path.normpath(subdirectory)


def _environment(remote: Remote, address: str) -> dict[str, str]:
    ssh = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]  # /etc/ssh/ssh_known_hosts
    ssh += ["-o", f"HostName={address}", "-o", f"HostKeyAlias={remote.host}", "-o", "UserKnownHostsFile=none"]
    return {
        "GIT_ALLOW_PROTOCOL": remote.scheme,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": " ".join(ssh),
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


def _settings(remote: Remote, address: str, ca_file: str | None) -> list[str]:
    shown = f"[{address}]" if ":" in address else address
    settings = {
        "core.fsmonitor": "false",
        "core.hooksPath": "/dev/null",
        "core.symlinks": "true",
        "fetch.fsckObjects": "true",
        "gc.auto": "0",
        "http.curloptResolve": f"{remote.host}:{remote.port}:{shown}",
        "http.followRedirects": "false",
        "protocol.allow": "never",
        f"protocol.{remote.scheme}.allow": "always",
        "submodule.recurse": "false",
        "transfer.credentialsInUrl": "die",
    }
    if ca_file:
        settings["http.sslCAInfo"] = ca_file
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


class _Git:
    """git in ``tree``, as nobody."""

    def __init__(
        self, tree: Path, environment: dict[str, str], settings: list[str], cancelled: threading.Event | None
    ) -> None:
        self._tree = tree
        self._environment = environment
        self._settings = settings
        self._cancelled = cancelled or threading.Event()
        self._deadline = time.monotonic() + _TIMEOUT_S

    def run(self, *words: str) -> str:
        """Standard output. Raises SourceError."""
        sandbox = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--"]
        sandbox += ["sh", "-c", f'mount --bind . {_MOUNTED} && cd {_MOUNTED} && exec "$@"', "sh"]
        sandbox += ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"]
        sandbox += ["--inh-caps=-all", "--bounding-set=-all", "--", "prlimit", f"--fsize={_MAX_FILE_BYTES}", "--core=0"]
        with subprocess.Popen(
            [*sandbox, "git", *self._settings, *words],
            cwd=self._tree,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            while True:
                try:
                    out, told = process.communicate(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if self._cancelled.is_set() or time.monotonic() > self._deadline:
                        process.send_signal(signal.SIGKILL)
        if self._cancelled.is_set():
            raise SourceError("fetching the repository was cancelled")
        if process.returncode == -signal.SIGKILL:
            raise SourceError(f"git {words[0]} did not end within {_TIMEOUT_S} s")
        if process.returncode != 0:
            text = told[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()
            raise SourceError(f"git {words[0]} failed: {text or process.returncode}")
        return out.decode("utf-8", "replace")


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
