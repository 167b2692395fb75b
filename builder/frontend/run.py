"""RUN, from instruction to operation: its command, its mounts, and what of it has to be allowed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.contexts.keys import SCRATCH
from builder.errors import EntitlementError, UnsupportedError
from builder.frontend.copy import absolute_path
from builder.frontend.state import StageState
from builder.graph.mounts import (
    CONTEXT_TARGET,
    EMPTY_DIRECTORY,
    BindMount,
    RunMount,
    SshMount,
    TmpfsMount,
    absolute,
    cache_mount,
    mounting_order,
    secret_mount,
    source_path,
    ssh_mount,
)
from builder.graph.vertices import DEFAULT_HOSTNAME, RunFile, RunOp, SourceLines, Vertex
from builder.request.arguments import CACHE_NAMESPACE_ARG, HOSTNAME_ARG, proxy_env
from dockerfile_grammar import Span, Stage, Word, ast
from images.platforms import runs_here

if TYPE_CHECKING:
    from builder.frontend.stages import Frontend
    from containers.spec import Network
    from dockerfile_grammar.mounts import Mount

_HEREDOC_DIRECTORY = "/dev/pipes"
_AGENT_VARIABLE = "SSH_AUTH_SOCK"


class RunPlanner:
    """Plans one RUN of a stage."""

    def __init__(self, frontend: Frontend, stage: Stage, state: StageState) -> None:
        self._frontend = frontend
        self._file = frontend.dockerfile
        self._request = frontend.request
        self._stage = stage
        self._state = state
        self._sources: list[Vertex] = []

    def plan(self, run: ast.Run, lines: SourceLines) -> tuple[RunOp, tuple[Vertex, ...], str]:
        """The operation, the vertices that its mounts read from, and the text to show.

        Raises DockerfileError, UnsupportedError and EntitlementError, with the place.
        """
        if run.devices:
            raise self._unsupported(
                "RUN --device", run.devices[0].span, "containers get no devices of the host but null, zero, random, tty"
            )
        args, files, shown = self._arguments(run)
        if not args:
            raise self._file.error(
                "RUN has no command", run.span, hint='write RUN command, or RUN ["program", "argument"]'
            )
        mounts = self._mounts(run, lines)
        op = RunOp(
            args=args,
            env=self._environment(mounts),
            cwd=absolute_path(self._state.config.working_dir.rstrip("/"), "."),
            user=self._state.config.user,
            hostname=self._request.build_args.get(HOSTNAME_ARG) or DEFAULT_HOSTNAME,
            network=self._network(run),
            extra_hosts=self._request.add_hosts,
            untracked_env=proxy_env(self._request.build_args),
            files=files,
            mounts=mounting_order(mounts),
            arg_names=self._state.arg_names(),
            insecure=self._insecure(run),
            foreign="" if runs_here(self._state.image.platform) else str(self._state.image.platform),
        )
        return op, tuple(self._sources), shown

    def _environment(self, mounts: list[RunMount]) -> tuple[tuple[str, str], ...]:
        """Variables, and where the first SSH agent is unless the Dockerfile says so itself."""
        env = dict(self._state.variables)
        agent = next((mount.target for mount in mounts if isinstance(mount, SshMount)), None)
        if agent is not None:
            env.setdefault(_AGENT_VARIABLE, agent)
        return tuple(env.items())

    def _network(self, run: ast.Run) -> Network:
        if run.network == "none":
            return "none"
        if run.network == "host":
            self._require("network.host", "--network=host", run)
            return "host"
        return self._request.network

    def _insecure(self, run: ast.Run) -> bool:
        if run.security == "insecure":
            self._require("security.insecure", "--security=insecure", run)
        return run.security == "insecure"

    def _require(self, entitlement: str, flag: str, run: ast.Run) -> None:
        if entitlement not in self._request.allow:
            written = run.flag(flag.strip("-").partition("=")[0])
            error = self._file.error(f"RUN {flag} is not allowed", written.span if written is not None else run.span)
            raise EntitlementError(error.render(), hint=f"allow it for this build: --allow {entitlement}")

    def _mounts(self, run: ast.Run, lines: SourceLines) -> list[RunMount]:
        if not run.mounts:
            return []
        from dockerfile_grammar.mounts import parse_mount

        workdir = self._state.config.working_dir
        mounts: list[RunMount] = []
        for flag in run.mounts:
            mount = parse_mount(flag, self._file.source, lambda text: self._expand(Word(text, flag.span)))  # noqa: B023
            if mount.type == "ssh":
                mounts.append(ssh_mount(mount, workdir, sum(isinstance(other, SshMount) for other in mounts)))
            else:
                mounts.append(self._mount(mount, flag, lines))
        return mounts

    def _mount(self, mount: Mount, flag: ast.Flag, lines: SourceLines) -> RunMount:
        """One mount; a vertex that it reads from is put at the end of the sources."""
        if mount.type == "secret":
            return secret_mount(mount, self._state.config.working_dir)
        target = absolute(self._state.config.working_dir, mount.target)
        if target == "/":
            raise self._file.error(
                "RUN --mount: the target is missing, or the root directory",
                flag.span,
                hint=f"write type={mount.type},target=/directory",
            )
        if mount.type == "tmpfs":
            return TmpfsMount(target, mount.size_bytes)
        path = source_path(mount)
        vertex, context = None, ""
        if mount.from_ == SCRATCH:
            vertex, path = self._frontend.empty_vertex(lines), absolute(EMPTY_DIRECTORY, path.lstrip("/"))
        elif mount.from_:
            vertex, context = self._frontend.source(Word(mount.from_, flag.span), self._stage, "from")
        if vertex is None and (mount.from_ or mount.type == "bind"):
            vertex, path = self._frontend.context_vertex(path, lines, context), CONTEXT_TARGET
        if vertex is not None:
            self._sources.append(vertex)
        source = len(self._sources) - 1
        if mount.type == "cache":
            namespace = self._request.build_args.get(CACHE_NAMESPACE_ARG, "")
            return cache_mount(mount, target, source if mount.from_ else None, path, namespace)
        return BindMount(target, source, path, mount.readonly)

    def _arguments(self, run: ast.Run) -> tuple[tuple[str, ...], tuple[RunFile, ...], str]:
        """The process's arguments, the files that it needs, and the text to show."""
        command = run.command
        if not isinstance(command, ast.ShellForm):
            return command.argv, (), run.original
        if not command.heredocs:
            return self._state.shell(command.text), (), run.original
        first = command.heredocs[0]
        shown = f"{run.original} ({_summary(first.text)})"
        if not _is_only_a_heredoc(command.text):
            bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in command.heredocs)
            return self._state.shell(command.text + bodies), (), shown
        if first.text.startswith("#!"):
            path = f"{_HEREDOC_DIRECTORY}/{first.name}"
            return self._state.shell(path), (RunFile(path, first.text.encode(), 0o755),), shown
        return self._state.shell(first.text), (), shown

    def _expand(self, word: Word) -> str:
        return self._frontend.words.expand(word, self._state.variables)

    def _unsupported(self, what: str, span: Span, hint: str) -> UnsupportedError:
        return UnsupportedError(self._file.error(f"{what} is not supported", span).render(), hint=hint)


def _is_only_a_heredoc(command: str) -> bool:
    """Whether a RUN is nothing but ``<<NAME``: its body is then the script, not the input of a command."""
    return re.fullmatch(r"\d*<<-?\s*(?:'[^']*'|\"[^\"]*\"|[^\s<>|&;'\"]+)", command.strip()) is not None


def _summary(text: str) -> str:
    """A heredoc in progress output: its first line that is no comment, shortened."""
    lines = [line.strip() for line in text.splitlines()]
    shown = [line for line in lines if line and not line.startswith("#!")] or [""]
    return shown[0] if len(lines) == 1 and len(shown[0]) <= 60 else f"{shown[0][:60]}..."
