"""RUN, from instruction to operation: its command, its mounts, and the entitlements that it needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.contexts.keys import SCRATCH
from builder.errors import EntitlementError, UnsupportedError
from builder.frontend.copy import absolute_path
from builder.frontend.planning import PlannedStep, Planning
from builder.frontend.state import StageState
from builder.graph.mounts import (
    CONTEXT_TARGET,
    EMPTY_DIRECTORY,
    BindMount,
    CacheMount,
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
from dockerfile_grammar import Word, ast
from images.platforms import runs_here

if TYPE_CHECKING:
    from containers.spec import Network
    from dockerfile_grammar.mounts import Mount

_HEREDOC_DIRECTORY = "/dev/pipes"
_AGENT_VARIABLE = "SSH_AUTH_SOCK"


def plan_run(planning: Planning, run: ast.Run, lines: SourceLines) -> PlannedStep:
    """Plan one RUN of a stage. Raises DockerfileError, UnsupportedError and EntitlementError, with the place."""
    file, request, state = planning.dockerfile, planning.request, planning.state
    if run.devices:
        refused = file.error("RUN --device is not supported", run.devices[0].span)
        raise UnsupportedError(
            refused.render(), hint="containers get no devices of the host but null, zero, random, tty"
        )
    args, files, shown = _arguments(run, state)
    if not args:
        raise file.error("RUN has no command", run.span, hint='write RUN command, or RUN ["program", "argument"]')
    mounts, sources = _mounts(planning, run, lines) if run.mounts else ([], ())
    op = RunOp(
        args=args,
        env=_environment(state, mounts),
        cwd=absolute_path(state.config.working_dir.rstrip("/"), "."),
        user=state.config.user,
        hostname=request.build_args.get(HOSTNAME_ARG) or DEFAULT_HOSTNAME,
        network=_network(planning, run),
        extra_hosts=request.add_hosts,
        untracked_env=proxy_env(request.build_args),
        files=files,
        mounts=mounting_order(mounts),
        arg_names=state.arg_names(),
        insecure=_insecure(planning, run),
        foreign="" if runs_here(state.image.platform) else str(state.image.platform),
    )
    return PlannedStep(op, shown, state.run_description(args) + " # buildkit", sources)


def _environment(state: StageState, mounts: list[RunMount]) -> tuple[tuple[str, str], ...]:
    """The variables, and the first SSH agent's socket unless the Dockerfile sets that variable itself."""
    env = dict(state.variables)
    agent = next((mount.target for mount in mounts if isinstance(mount, SshMount)), None)
    if agent is not None:
        env.setdefault(_AGENT_VARIABLE, agent)
    return tuple(env.items())


def _network(planning: Planning, run: ast.Run) -> Network:
    if run.network == "none":
        return "none"
    if run.network == "host":
        _require(planning, "network.host", "--network=host", run)
        return "host"
    return planning.request.network


def _insecure(planning: Planning, run: ast.Run) -> bool:
    if run.security == "insecure":
        _require(planning, "security.insecure", "--security=insecure", run)
    return run.security == "insecure"


def _require(planning: Planning, entitlement: str, flag: str, run: ast.Run) -> None:
    if entitlement not in planning.request.allow:
        written = run.flag(flag.strip("-").partition("=")[0])
        span = written.span if written is not None else run.span
        error = planning.dockerfile.error(f"RUN {flag} is not allowed", span)
        raise EntitlementError(error.render(), hint=f"allow it for this build: --allow {entitlement}")


def _mounts(planning: Planning, run: ast.Run, lines: SourceLines) -> tuple[list[RunMount], tuple[Vertex, ...]]:
    """The mounts, and the vertices that they read from."""
    from dockerfile_grammar.mounts import parse_mount

    source, workdir = planning.dockerfile.source, planning.state.config.working_dir
    mounts: list[RunMount] = []
    sources: list[Vertex] = []
    for flag in run.mounts:
        mount = parse_mount(flag, source, lambda text: planning.expand(Word(text, flag.span)))  # noqa: B023
        if mount.type == "ssh":
            mounts.append(ssh_mount(mount, workdir, sum(isinstance(other, SshMount) for other in mounts)))
        elif mount.type == "secret":
            mounts.append(secret_mount(mount, workdir))
        else:
            mounts.append(_directory(planning, mount, flag, lines, sources))
    return mounts, tuple(sources)


def _directory(
    planning: Planning, mount: Mount, flag: ast.Flag, lines: SourceLines, sources: list[Vertex]
) -> TmpfsMount | CacheMount | BindMount:
    """One mount of a directory. Appends the vertex that the mount reads from to ``sources``."""
    target = absolute(planning.state.config.working_dir, mount.target)
    if target == "/":
        raise planning.dockerfile.error(
            "RUN --mount: the target is missing, or the root directory",
            flag.span,
            hint=f"write type={mount.type},target=/directory",
        )
    if mount.type == "tmpfs":
        return TmpfsMount(target, mount.size_bytes)
    path = source_path(mount)
    vertex, context = None, ""
    if mount.from_ == SCRATCH:
        vertex, path = planning.shared.empty(lines), absolute(EMPTY_DIRECTORY, path.lstrip("/"))
    elif mount.from_:
        vertex, context = planning.source(Word(mount.from_, flag.span), "from")
    if vertex is None and (mount.from_ or mount.type == "bind"):
        vertex, path = planning.shared.of_context(path, lines, context), CONTEXT_TARGET
    if vertex is not None:
        sources.append(vertex)
    number = len(sources) - 1
    if mount.type == "cache":
        namespace = planning.request.build_args.get(CACHE_NAMESPACE_ARG, "")
        return cache_mount(mount, target, number if mount.from_ else None, path, namespace)
    return BindMount(target, number, path, mount.readonly)


def _arguments(run: ast.Run, state: StageState) -> tuple[tuple[str, ...], tuple[RunFile, ...], str]:
    """The process's arguments, the files that it needs, and the text to show."""
    command = run.command
    if not isinstance(command, ast.ShellForm):
        return command.argv, (), run.original
    if not command.heredocs:
        return state.shell(command.text), (), run.original
    first = command.heredocs[0]
    shown = f"{run.original} ({_summary(first.text)})"
    if not _is_only_a_heredoc(command.text):
        bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in command.heredocs)
        return state.shell(command.text + bodies), (), shown
    if first.text.startswith("#!"):
        path = f"{_HEREDOC_DIRECTORY}/{first.name}"
        return state.shell(path), (RunFile(path, first.text.encode(), 0o755),), shown
    return state.shell(first.text), (), shown


def _is_only_a_heredoc(command: str) -> bool:
    """Whether a RUN is nothing but ``<<NAME``. Its body is then the script rather than a command's input."""
    return re.fullmatch(r"\d*<<-?\s*(?:'[^']*'|\"[^\"]*\"|[^\s<>|&;'\"]+)", command.strip()) is not None


def _summary(text: str) -> str:
    """A heredoc in progress output: its first line that is no comment, shortened."""
    lines = [line.strip() for line in text.splitlines()]
    shown = [line for line in lines if line and not line.startswith("#!")] or [""]
    return shown[0] if len(lines) == 1 and len(shown[0]) <= 60 else f"{shown[0][:60]}..."
