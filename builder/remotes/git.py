"""Git repositories, fetched shallowly by a git that can do little else.

- Only the protocols of ``core.fetchable.PORTS``. In a service, the address of each host is checked and pinned
  (``gitroute``), also for every submodule. No redirects are followed.
- No hooks, no filters, no configuration but ours. What the user wrote never is an option. Submodules only where asked.
- git runs as nobody and cannot gain privileges. It has mount, process and IPC namespaces of its own that end with it,
  and limits on time and on the size of files. It may write to one directory only. (Started by a user other than root,
  git runs as that user.)
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from builder.errors import BuildCancelledError, FetchError, FetchUnreachableError
from builder.remotes.gitroute import GitAccess, Route, route_here, route_to
from builder.remotes.giturls import GitReference, GitRemote, check_ref, parse_remote
from core.closing import Closing
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_GIT_LINK: Final = "160000 "  # a submodule's mode in the index
_NOBODY: Final = 65534
_TIMEOUT_S: Final = 600
_MAX_FILE_BYTES: Final = 4 << 30
_POLL_S: Final = 0.1
_MOUNTED: Final = "/mnt"  # where git sees its directory, whose own path nobody may walk
_SHOWN_BYTES: Final = 2000
_AWAY: Final = re.compile(  # what git, curl and ssh say of servers that do not answer, and of connections that broke
    r"(?i)failed to connect|could not connect|connection (?:refused|reset|closed|timed out)|operation timed out|"
    r"could not resolve (?:host|proxy)|temporary failure in name resolution|no route to host|network is unreachable|"
    r"empty reply from server|returned error: 5\d\d|code 5\d\d from proxy|early EOF|unexpected disconnect|"
    r"non-properly terminated|error in the p(?:ull|ush) function|SSL_ERROR_SYSCALL|unexpected eof while reading|"
    r"(?:recv|send) failure"
)
_TREE, _AGENT, _KNOWN_HOSTS, _REPOSITORY, _CONFIG = "tree", "agent", "known_hosts", "repository", "config"


class Found(msgspec.Struct, frozen=True):
    """What a reference means now.

    name: what to fetch: a full ref, ``HEAD`` or a commit.
    branch, tag: if it is one.
    hashes: of the commit, and of the annotated tag that leads to it.
    """

    name: str
    hashes: tuple[str, ...]
    branch: str = ""
    tag: str = ""

    @property
    def commit(self) -> str:
        return self.hashes[0]

    @classmethod
    def of_commit(cls, ref: str) -> Found | None:
        """What a whole commit hash means, without asking the server; None for everything else."""
        return cls(ref, (ref,)) if _COMMIT.fullmatch(ref) else None

    def check(self, reference: GitReference) -> None:
        """Raises FetchError unless the commit's hash begins with ``reference.checksum``."""
        if not any(found.startswith(reference.checksum) for found in self.hashes):
            raise FetchError(
                f"{reference.ref or 'the default branch'} of {reference.remote.url} is at {self.commit}, "
                f"not at {reference.checksum}",
                hint="if that is what you want, put its hash into the Dockerfile",
            )


class Head(msgspec.Struct, frozen=True):
    """The server's default branch, and its commit; empty where the server does not say."""

    branch: str = ""
    commit: str = ""


class Checkout(msgspec.Struct, frozen=True):
    """What was fetched.

    tree: the directory that was asked for.
    committed_at: seconds since the epoch.
    hashes: of the commit, and of the tag that led to it.
    """

    tree: Path
    commit: str
    committed_at: int
    hashes: tuple[str, ...] = ()

    def check(self, found: Found) -> None:
        """Raises FetchError when it is not what ``find`` found: a branch may move between question and fetch."""
        if not set(self.hashes) & set(found.hashes):
            raise FetchError(f"{found.name} moved while it was fetched", hint="run the same command again")


class Git(Closing):
    """One repository, in a directory that is made. A context manager, which ends the SSH agent that git may use.

    directory: belongs to this object as a whole; the caller removes it.
    stopped: asked every now and then.
    url: as git gets it.
    Every method raises FetchError, and BuildCancelledError once stopped.
    """

    def __init__(self, remote: GitRemote, directory: Path, access: GitAccess, stopped: Callable[[], bool]) -> None:
        self._remote = remote
        self._directory = directory
        self._stopped = stopped
        self._deadline = time.monotonic() + _TIMEOUT_S
        self._stack = ExitStack()
        self.tree = directory / _TREE
        self._access = access
        directory.mkdir(mode=0o700)
        self.tree.mkdir(mode=0o700)
        self._sandboxed = os.geteuid() == 0
        if self._sandboxed:
            os.chown(directory, _NOBODY, _NOBODY)
            os.chown(self.tree, _NOBODY, _NOBODY)
        self._ssh = self._ssh_options(access)
        self._route = self._local_route(access.local) if access.local else route_to(remote, access, self._ssh)
        self.url = self._route.url
        self.is_public = access.reach.public_only and not access.local and not access.reach.names(*_place(remote))
        """Whether all that was fetched so far is at public addresses, and not let through by name."""
        self.run("init", "--quiet", "--template=", "--initial-branch=master", ".")

    def close(self) -> None:
        self._stack.close()

    def find(self, ref: str) -> Found:
        """Ask the server what ``ref`` means; empty is its default branch. A whole commit hash is not asked for."""
        check_ref(ref)
        if (known := Found.of_commit(ref)) is not None:
            return known
        if not ref:
            head = self.head()
            if not head.commit:
                raise FetchError(f"{self._remote.url} has no default branch", hint="name a branch: #BRANCH")
            return Found("HEAD", (head.commit,), head.branch)
        candidates = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        asked = [name for full in candidates for name in (full, f"{full}^{{}}")]
        answer = self.run("ls-remote", "--", self.url, *asked)
        listed = dict(line.split("\t")[::-1] for line in answer.splitlines())
        for full in candidates:
            if full in listed:
                hashes = (listed.get(f"{full}^{{}}", listed[full]), listed[full])
                branch_name, tag = full.removeprefix("refs/heads/"), full.removeprefix("refs/tags/")
                return Found(
                    full,
                    tuple(dict.fromkeys(hashes)),
                    branch_name if branch_name != full else "",
                    tag if tag != full else "",
                )
        raise FetchError(
            f"{self._remote.url} has no branch, tag or commit {ref!r}", hint="a commit is named by its whole hash"
        )

    def head(self) -> Head:
        """Ask the server for its default branch."""
        answer = self.run("ls-remote", "--symref", "--", self.url, "HEAD")
        branch = re.match(r"ref: refs/heads/(\S+)\tHEAD", answer)
        commit = re.search(r"^([0-9a-f]+)\tHEAD$", answer, re.MULTILINE)
        return Head(branch[1] if branch else "", commit[1] if commit else "")

    def checkout(
        self, found: Found, *, subdirectory: str = "", keep: bool = False, submodules: bool = False
    ) -> Checkout:
        """Fetch the commit, and put its files into ``tree``. keep: leave ``.git`` there, as in a shallow clone."""
        self.run("remote", "add", "origin", self.url)
        target = f"+{found.name}:{found.name}" if keep and found.name.startswith("refs/") else found.name
        self._fetch(target)
        parsed = self.run("rev-parse", "FETCH_HEAD^{commit}", "FETCH_HEAD").split()
        commit = parsed[0]
        self.run("checkout", "--quiet", "--detach", "--no-recurse-submodules", commit)
        if submodules and (self.tree / ".gitmodules").is_file():
            self._fetch_submodules()
        committed_at = int(self.run("show", "--no-patch", "--format=%ct", commit).split()[-1])
        if keep:
            self.run("reflog", "expire", "--all", "--expire=now")
            (self.tree / ".git/FETCH_HEAD").unlink()
        else:
            for name in [".git", *(found for found in _git_links(self.tree) if submodules)]:
                _remove(self.tree / name)
        return Checkout(_below(self.tree, subdirectory), commit, committed_at, tuple(parsed))

    def _fetch_submodules(self) -> None:
        if not self._access.reach.public_only:
            self.run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
            return
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            waiting += [os.path.join(folder, path) for path in self._fetch_level(folder)]

    def _fetch_level(self, folder: str) -> list[str]:
        """Fetch the submodules that a repository itself names. Returns their paths.

        First the URLs of all are checked. Then each is fetched, with its address pinned.
        """
        if not (self.tree / folder / ".gitmodules").is_file():
            return []
        self.run("submodule", "--quiet", "init", folder=folder)
        urls = self._named(folder, "url", "--local")
        paths = self._named(folder, "path", "--file", ".gitmodules")
        staged = self.run("ls-files", "--stage", "-z", folder=folder).split("\0")
        links = {entry.partition("\t")[2] for entry in staged if entry.startswith(_GIT_LINK)}
        routes = []
        for name, url in urls.items():
            path = paths.get(name, "")
            if path not in links:  # git has looked it up by its path, but may read a file like this in another way
                raise FetchError(f"{self._remote.url}: .gitmodules does not say where submodule {name[:100]!r} is")
            remote = parse_remote(url)
            route = route_to(remote, self._access, self._ssh)
            self.is_public = self.is_public and not self._access.reach.names(*_place(remote))
            # The URL as it was checked, not as git would read the file.
            self.run("config", "--local", f"submodule.{name}.url", route.url, folder=folder)
            routes.append((path, route))
        update = ("submodule", "--quiet", "update", "--checkout", "--depth=1", "--")
        for path, route in routes:
            self.run(*update, path, folder=folder, route=route)
        return [path for path, _ in routes]

    def _named(self, folder: str, member: str, *where: str) -> dict[str, str]:
        """One setting of all submodules in a configuration file, by submodule. Raises FetchError if it comes twice."""
        found: dict[str, str] = {}
        for entry in self.run("config", *where, "--null", "--list", folder=folder).split("\0"):
            key, _, value = entry.partition("\n")
            if key.startswith("submodule.") and key.endswith(f".{member}"):
                name = key.removeprefix("submodule.").removesuffix(f".{member}")
                if name in found:
                    raise FetchError(f"{self._remote.url}: .gitmodules names submodule {name[:100]!r} twice")
                found[name] = value
        return found

    def _fetch(self, target: str) -> None:
        words = ("fetch", "--quiet", "--update-head-ok", "--no-tags", "--no-recurse-submodules")
        try:
            self.run(*words, "--depth=1", "--", "origin", target)
        except FetchError as error:
            if "shallow" not in error.message and "--depth" not in error.message:
                raise
            self.run(*words, "--", "origin", target)  # a server of files only: it has all or nothing

    def _ssh_options(self, access: GitAccess) -> list[str]:
        if access.ssh is None:
            return ["-o", "UserKnownHostsFile=none"]
        known = self._directory / _KNOWN_HOSTS
        known.write_bytes(access.ssh.known_hosts)
        known.chmod(0o644)
        options = ["-o", f"UserKnownHostsFile={self._seen}/{_KNOWN_HOSTS}"]
        if access.ssh.agent is not None:
            self._stack.enter_context(access.ssh.agent.listening(self._directory, _AGENT, *self._owner()))
            options += ["-o", f"IdentityAgent={self._seen}/{_AGENT}"]
        return options

    def _local_route(self, repository: Path) -> Route:
        # Whoever owns it: the service's administrator has put it there.
        config = self._directory / _CONFIG
        config.write_text("[safe]\n\tdirectory = *\n")
        config.chmod(0o644)  # whatever the umask: nobody reads it
        if self._sandboxed:
            (self._directory / _REPOSITORY).mkdir(mode=0o755)
            repository = Path(_MOUNTED, _REPOSITORY)
        return route_here(f"file://{repository}", self._access, f"{self._seen}/{_CONFIG}")

    @property
    def _seen(self) -> str:
        """Where git sees the directory."""
        return _MOUNTED if self._sandboxed else str(self._directory)

    def _owner(self) -> tuple[int, int]:
        return (_NOBODY, _NOBODY) if self._sandboxed else (os.geteuid(), os.getegid())

    def run(self, *words: str, folder: str = ".", route: Route | None = None) -> str:
        """Run git in a folder of the tree; its standard output. route: where it may go; None: to the remote."""
        route = route or self._route
        command = ["git", "-C", folder, "--literal-pathspecs", *route.settings, *words]
        if self._sandboxed:
            command = [*_sandbox(self._access.local), *command]
        try:
            process = subprocess.Popen(
                command,
                cwd=self._directory if self._sandboxed else self.tree,
                env=dict(route.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                umask=0o022,
            )
        except FileNotFoundError as error:
            raise FetchError(f"cannot start {error.filename}", hint="install git and util-linux") from error
        with process:
            while True:
                try:
                    out, told = process.communicate(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if self._stopped() or time.monotonic() > self._deadline:
                        process.send_signal(signal.SIGKILL)
        if self._stopped():
            raise BuildCancelledError("fetching the repository was cancelled")
        if process.returncode == -signal.SIGKILL:
            raise FetchUnreachableError(f"git {words[0]} did not end within {_TIMEOUT_S} s")
        if process.returncode != 0:
            text = told[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()
            if process.returncode == 127:
                raise FetchError(f"git cannot be started: {text}", hint="install git")
            hint = _hint(text)
            kind = FetchUnreachableError if hint is None and _AWAY.search(text) else FetchError
            raise kind(f"git {words[0]} of {self._remote.url} failed: {text or process.returncode}", hint=hint)
        return out.decode("utf-8", "replace")


def _place(remote: GitRemote) -> tuple[str, int]:
    return remote.host, remote.port


def _sandbox(local: Path | None) -> list[str]:
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--"]
    inside = f'mount --rbind . {_MOUNTED} && cd {_MOUNTED}/{_TREE} && exec "$@"'
    if local is None:
        words += ["sh", "-c", inside, "sh"]
    else:  # the way to it need not be nobody's to walk
        words += ["sh", "-c", f'mount --bind -o ro "$1" {_REPOSITORY} && shift && {inside}', "sh", str(local)]
    words += ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"]
    words += ["--inh-caps=-all", "--bounding-set=-all", "--", "prlimit", f"--fsize={_MAX_FILE_BYTES}", "--core=0"]
    return words


def _hint(told: str) -> str | None:
    if "Host key verification failed" in told:
        return "the host's key is not among the known ones: connect once with ssh, and compare it"
    if "Permission denied" in told:
        return "give a key: --ssh default, or --ssh default=FILE"
    if "could not read Username" in told or "Authentication failed" in told:
        return "give a token: --secret id=GIT_AUTH_TOKEN,env=VARIABLE"
    return None


def _git_links(tree: Path) -> list[str]:
    """The paths of submodules' ``.git`` files, whose targets do not exist any more."""
    found = []
    for folder, directories, files in os.walk(tree):
        if ".git" in directories:
            directories.remove(".git")
        if ".git" in files:
            found.append(os.path.relpath(os.path.join(folder, ".git"), tree))
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _below(tree: Path, subdirectory: str) -> Path:
    """A subdirectory of the tree. The kernel confines the lookup; a link in the path is refused."""
    subdirectory = subdirectory.strip("/")
    if subdirectory in ("", "."):
        return tree
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = openat2(root, subdirectory, os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise FetchError(f"the repository has no directory {subdirectory!r}: {error.strerror}") from error
    finally:
        os.close(root)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_directory:
        raise FetchError(f"{subdirectory!r} in the repository is not a directory")
    return tree / os.path.normpath(subdirectory)
