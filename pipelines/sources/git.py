"""Git repositories as the source of a run: what a service fetches of them, and from where.

https and ssh only, no credentials in URLs, no submodules. The host is resolved once, and its address pinned. Private,
link-local and other special addresses are refused unless the administrator allows the host. File URLs may name only
repositories below one directory. ``builder/remotes/git.py`` keeps git from doing anything else.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from builder.errors import BuildCancelledError, FetchError, FetchUnreachableError, InvalidUrlError
from builder.remotes.git import Git
from builder.remotes.gitroute import GitAccess
from builder.remotes.gitserver import Found, Head
from builder.remotes.giturls import GitRemote, check_ref, check_remote
from builder.remotes.ssh import SshAccess
from ci.patterns import means_any
from core.reach import Reach, Resolve, look_up
from core.settings import FetchSettings, ServiceSettings
from pipelines.errors import InvalidRequestError, NothingToBuildError, SourceError, SourceUnreachableError
from pipelines.model import GitSource
from pipelines.owning.ownership import bare_owner_below

_SCHEMES: Final = ("https", "ssh")
_TOP: Final = "git"  # ROOT/git, and /git/ of the web process
_FILE: Final = "file"
_SCP: Final = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^/].*)")
_ELSEWHERE_HINT: Final = "a worker with a root of its own needs SHIPLAP_WEB_URL, from where it fetches them"
_URL_HINT: Final = "write https://HOST/PATH or ssh://USER@HOST/PATH, without passwords"


class Checkout(msgspec.Struct, frozen=True):
    """A fetched commit.

    context: the directory to build.
    branch, tag: the one that the ref was, or else the one that the source says.
    found: the server's word on what the ref is.
    head: the server's default branch, where the caller asked for it.
    top: the directory of all of its files.
    """

    context: Path
    commit: str
    branch: str
    tag: str
    found: Found
    head: Head
    top: Path


class Served(msgspec.Struct, frozen=True):
    """Access to the repositories below the service's ROOT/git for a worker with another root: over HTTP, for one run.

    url: of the web process.
    authorization: the header with the run's token; empty where it has none.
    owns: whether the run may fetch the bare repositories of the project with this name. The web process decides that;
    ``Served`` only finds the name in a path.
    """

    url: str
    authorization: str
    owns: Callable[[str], bool]

    def remote(self, url: str) -> GitRemote:
        """The address at which a file URL's repository is served to this run. Raises SourceError."""
        if not self.authorization:
            raise SourceError("a run of what strangers wrote fetches no repository of the service's from elsewhere")
        return self.address(url)

    def address(self, url: str) -> GitRemote:
        """The same, whether the run may fetch it or not. Raises SourceError.

        The service's root is not known here. Below it is ``git``, and below that the project's name.
        """
        parts = urlsplit(url).path.split("/")
        for place, name in enumerate(parts[1:], 1):
            if parts[place - 1] == _TOP and self.owns(bare_owner_below(name)):
                return check_remote(urlsplit(f"{self.url}/{_TOP}/{'/'.join(parts[place:])}"))
        raise SourceError(f"{url[:200]} is no repository of the project's that {self.url} serves")


def parse_url(url: str, local: Path | None = None) -> GitRemote:
    """Check a clone URL. It must have no credentials, which would be shown everywhere. Raises InvalidRequestError.

    local: the directory whose repositories file URLs may name; None: there are none.
    """
    scp = _SCP.fullmatch(url)
    if scp:
        url = f"ssh://{scp['user']}@{scp['host']}/{scp['path']}"
    try:
        parts = urlsplit(url)
        if parts.scheme == _FILE:
            return _local_remote(url, parts, local)
        if parts.scheme not in _SCHEMES:
            raise InvalidRequestError(f"git URLs of kind {parts.scheme or 'path'!r} are not fetched", hint=_URL_HINT)
        if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
            raise InvalidRequestError("a git URL must not contain a password or token", hint=_URL_HINT)
        if parts.query or parts.fragment or any(ord(letter) < 0x21 for letter in url):
            raise InvalidRequestError(f"invalid git URL {url[:200]!r}", hint=_URL_HINT)
        return check_remote(parts)
    except (ValueError, InvalidUrlError) as error:
        raise InvalidRequestError(f"invalid git URL {url[:200]!r}: {error}", hint=_URL_HINT) from error


def _local_remote(url: str, parts: SplitResult, local: Path | None) -> GitRemote:
    """A repository on the worker's machine. Links below ``local`` are its administrator's own."""
    path = parts.path
    is_plain = os.path.normpath(path) == path and not parts.netloc and not parts.query and not parts.fragment
    if not is_plain or "%" in path or any(ord(letter) < 0x21 for letter in path):
        raise InvalidRequestError(f"invalid git URL {url[:200]!r}", hint="file:///PATH, without '..', '%' and spaces")
    if local is None or local == Path(path) or not Path(path).is_relative_to(local):
        raise InvalidRequestError(
            f"{url[:200]} is not below {local or 'a directory of repositories'}",
            hint=f"put the repository, or a link to it, there; {_ELSEWHERE_HINT}",
        )
    return GitRemote(url, _FILE, "", 0)


def repositories(settings: ServiceSettings) -> Path:
    """ROOT/git, whose repositories may be named by file URLs."""
    return settings.root / _TOP


def reach(allowed_hosts: Sequence[str], resolve: Resolve = look_up, *, denied: Sequence[str] = ()) -> Reach:
    """The hosts that a service's builds may fetch from. denied: networks, each as in ``10.0.0.0/8``."""
    advice = "the administrator can allow the host in SHIPLAP_GIT_ALLOWED_HOSTS"
    return Reach(
        public_only=True,
        allowed=tuple(host.lower() for host in allowed_hosts),
        denied=tuple(denied),
        resolve=resolve,
        advice=advice,
    )


def fetch_git(
    source: GitSource,
    directory: Path,
    *,
    bounds: Reach | None = None,
    cancelled: threading.Event | None = None,
    ca_file: str | None = None,
    ssh: SshAccess | None = None,
    local: Path | None = None,
    served: Served | None = None,
    ask_head: bool = False,
    limits: FetchSettings | None = None,
) -> Checkout:
    """Fetch one commit into ``directory``, which is made.

    bounds: what may be connected to; None: public hosts.
    ca_file: certificates to trust instead of the system's.
    ssh: the key and the known hosts for an ssh URL.
    local: the directory whose repositories file URLs may name.
    served: from where they are fetched in place of that directory, if at all.
    ask_head: ask for the server's default branch, too.
    limits: how long it may take, and how big git's files may get; None: as usual.
    Raises InvalidRequestError, and SourceError (SourceUnreachableError when the server does not answer). Raises
    SourceError too once ``cancelled`` is set. Raises NothingToBuildError when no file that the source's paths name has
    changed.
    """
    with as_source_errors():
        usual = GitAccess(bounds or reach(()), ssh=ssh, ca_file=ca_file, bounds=limits or FetchSettings())
        remote, access = way_to(source.url, usual, local, served)
        check_ref(source.ref)
        with Git(remote, directory, access, (cancelled or threading.Event()).is_set) as git:
            found = git.find(source.ref)
            head = git.head() if ask_head else Head()
            if source.base and source.paths:
                _check_paths(git, found, source)
            checkout = git.checkout(found, subdirectory=source.subdirectory)
            top = git.tree
    if not checkout.commit.startswith(source.commit):
        raise SourceError(
            f"{source.ref} is commit {checkout.commit[:12]} now, no more {source.commit[:12]}",
            hint="what was pushed since then has a run of its own",
        )
    branch, tag = found.branch or source.branch, found.tag or source.tag
    return Checkout(checkout.tree, checkout.commit, branch, tag, found, head, top)


@contextlib.contextmanager
def as_source_errors() -> Iterator[None]:
    """What the builder says of fetching, as errors of this room: InvalidRequestError, SourceError and its kinds."""
    try:
        yield
    except InvalidUrlError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    except FetchUnreachableError as error:
        raise SourceUnreachableError(error.message, hint=error.hint) from error
    except (FetchError, BuildCancelledError) as error:
        raise SourceError(error.message, hint=error.hint) from error


def way_to(url: str, access: GitAccess, local: Path | None, served: Served | None) -> tuple[GitRemote, GitAccess]:
    """The remote to fetch from, and how. Raises InvalidRequestError, InvalidUrlError, SourceError.

    access: as usual. local, served: as for ``fetch_git``.
    """
    if not url.startswith(f"{_FILE}:"):
        return parse_url(url), access
    if served is not None:
        remote, header = served.remote(url), served.authorization
        bounds = access.reach.allowing(urlsplit(remote.url).netloc)
        return remote, msgspec.structs.replace(access, reach=bounds, header=lambda _: header)
    remote = parse_url(url, local)
    path = Path(urlsplit(remote.url).path)
    if not path.is_dir():
        raise SourceError(f"{remote.url} is not on this worker's machine", hint=_ELSEWHERE_HINT)
    return remote, msgspec.structs.replace(access, local=path)


def name_of(url: str, local: Path | None, served: Served | None) -> GitRemote:
    """The remote of ``way_to``, where nothing is fetched from it: what it is called here, with the rights of nobody.

    Raises InvalidRequestError, InvalidUrlError, SourceError.
    """
    if not url.startswith(f"{_FILE}:"):
        return parse_url(url)
    return parse_url(url, local) if served is None else served.address(url)


def _check_paths(git: Git, found: Found, source: GitSource) -> None:
    """Raises NothingToBuildError when the source's paths mean none of the files that changed since the base."""
    check_ref(source.base)
    fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", git.url)
    git.run(*fetch, found.name)
    commit = git.run("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}").strip()
    try:
        git.run(*fetch, source.base)
        base = git.run("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}").strip()
    except FetchError:  # history was rewritten and the base is gone: everything may have changed
        return
    listed = git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, commit)
    if not means_any(source.paths, [path for path in listed.split("\0") if path]):
        raise NothingToBuildError(f"no file changed since {base[:12]} that the project's paths name")
