"""git in front of one server: what its refs mean, by one route, with one set of credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from builder.errors import BuildCancelledError, FetchError, FetchUnreachableError
from builder.remotes.gitprogram import NOBODY, Bind, Ended, GitProgram
from builder.remotes.gitroute import GitAccess, Route, route_here, route_to
from builder.remotes.gitshell import GitShell
from builder.remotes.giturls import GitReference, GitRemote, check_ref
from core.closing import Closing

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHOWN_BYTES: Final = 2000
_AWAY: Final = re.compile(  # what git, curl and ssh say of servers that do not answer, and of connections that broke
    r"(?i)failed to connect|could not connect|connection (?:refused|reset|closed|timed out)|operation timed out|"
    r"could not resolve (?:host|proxy)|temporary failure in name resolution|no route to host|network is unreachable|"
    r"empty reply from server|returned error: 5\d\d|code 5\d\d from proxy|early EOF|unexpected disconnect|"
    r"non-properly terminated|error in the p(?:ull|ush) function|SSL_ERROR_SYSCALL|unexpected eof while reading|"
    r"(?:recv|send) failure"
)
_AGENT, _KNOWN_HOSTS, _REPOSITORY, _CONFIG = "agent", "known_hosts", "repository", "config"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


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
        return cls(ref, (ref,)) if is_commit(ref) else None

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


def is_commit(text: str) -> bool:
    """Whether it is the whole hash of a commit."""
    return _COMMIT.fullmatch(text) is not None


class GitServer(Closing):
    """One remote, from a directory of the caller's. Ends the SSH agent that git may use.

    directory: an empty one for this object alone; the caller removes it.
    folder: of the repository, in the directory.
    binds: what git sees beside, such as the repository.
    environment: more variables for git.
    pass_fds: locks that git holds for as long as it runs.
    stopped: asked every now and then.
    url: as git gets it.
    Every method raises FetchError, and BuildCancelledError once stopped.
    """

    def __init__(
        self,
        remote: GitRemote,
        directory: Path,
        folder: str,
        access: GitAccess,
        stopped: Callable[[], bool],
        *,
        binds: Sequence[Bind] = (),
        environment: Mapping[str, str] = _NOTHING,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._remote = remote
        self._directory = directory
        self._access = access
        self._environment = environment
        self._pass_fds = pass_fds
        self._stack = ExitStack()
        if access.local is not None:
            (directory / _REPOSITORY).mkdir(mode=0o755)
            binds = [*binds, Bind(access.local, _REPOSITORY)]

        def ask() -> None:
            if stopped():
                raise BuildCancelledError("fetching the repository was cancelled")

        self._program = GitProgram(directory, folder, binds=binds, bounds=access.bounds, question=ask)
        self._shell = GitShell(lambda: (self._program, self._environment_of(self._route)), directory, pass_fds)
        self._stack.callback(self._shell.close)
        self._ssh = self._ssh_options(access)
        self._route = self._local_route() if access.local else route_to(remote, access, self._ssh)
        self.url = self._route.url

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

    def run(self, *words: str, folder: str = ".", route: Route | None = None) -> str:
        """Run git in a folder of the repository; its standard output. route: where it may go; None: to the remote."""
        route = route or self._route
        command = ["git", "-C", folder, "--literal-pathspecs", *route.settings, *words]
        ended = self._ended(command, route, f"git {words[0]}")
        if ended.code != 0:
            text = ended.told[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()
            hint = _hint(text)
            kind = FetchUnreachableError if hint is None and _AWAY.search(text) else FetchError
            raise kind(f"git {words[0]} of {self._remote.url} failed: {text or ended.code}", hint=hint)
        return ended.out.decode("utf-8", "replace")

    def _ended(self, command: Sequence[str], route: Route, what: str) -> Ended:
        """How a git ended: all that go to the remote, or nowhere, share a sandbox."""
        if route is self._route:
            found = self._shell.run_all([command], late_at=self._program.late_at)
            if found is not None:
                return found[0]
        process = self._program.start(command, self._environment_of(route), pass_fds=self._pass_fds)
        return self._program.finish(process, what)

    def _environment_of(self, route: Route) -> dict[str, str]:
        return {**route.environment, **self._environment}

    def _ssh_options(self, access: GitAccess) -> list[str]:
        if access.ssh is None:
            return ["-o", "UserKnownHostsFile=none"]
        known = self._directory / _KNOWN_HOSTS
        known.write_bytes(access.ssh.known_hosts)
        known.chmod(0o644)
        options = ["-o", f"UserKnownHostsFile={self._program.seen(_KNOWN_HOSTS)}"]
        if access.ssh.agent is not None:
            ids = (NOBODY, NOBODY) if self._program.is_sandboxed else (-1, -1)
            self._stack.enter_context(access.ssh.agent.listening(self._directory, _AGENT, *ids))
            options += ["-o", f"IdentityAgent={self._program.seen(_AGENT)}"]
        return options

    def _local_route(self) -> Route:
        # Whoever owns it: the service's administrator has put it there.
        config = self._directory / _CONFIG
        config.write_text("[safe]\n\tdirectory = *\n")
        config.chmod(0o644)  # whatever the umask: nobody reads it
        return route_here(f"file://{self._program.seen(_REPOSITORY)}", self._access, self._program.seen(_CONFIG))


def _hint(told: str) -> str | None:
    if "Host key verification failed" in told:
        return "the host's key is not among the known ones: connect once with ssh, and compare it"
    if "Permission denied" in told:
        return "give a key: --ssh default, or --ssh default=FILE"
    if "could not read Username" in told or "Authentication failed" in told:
        return "give a token: --secret id=GIT_AUTH_TOKEN,env=VARIABLE"
    return None
