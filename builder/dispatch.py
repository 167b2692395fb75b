"""What each instruction does to its stage: config, variables, history, and a vertex where it makes a layer."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from builder import gotext
from builder.arguments import proxy_env
from builder.copyspec import CopySpec
from builder.errors import UnsupportedError
from builder.graph import CopyOp, Op, RunFile, RunOp, SourceLines, Vertex, WorkdirOp
from builder.mounts import (
    CONTEXT_TARGET,
    BindMount,
    RunMount,
    TmpfsMount,
    absolute,
    cache_mount,
    mounting_order,
    secret_mount,
    source_path,
)
from builder.ports import parse_port
from builder.signals import check_signal
from builder.stage import StageState
from core.errors import ShiplapError
from dockerfile_grammar import Instruction, Span, Stage, Word, ast, expand_body, expand_words
from images.oci import Healthcheck as HealthcheckConfig

if TYPE_CHECKING:
    from builder.frontend import Frontend
    from dockerfile_grammar.mounts import Mount

_HEREDOC_DIRECTORY = "/dev/pipes"
_REMOTE_PREFIXES = ("http://", "https://", "git://", "ssh://", "git@")


class Dispatcher:
    """Applies instructions to the state of one stage, in order.

    next_name: makes the step's name of an instruction's text; called once for each instruction that makes a layer.
    """

    def __init__(self, frontend: Frontend, stage: Stage, state: StageState, next_name: Callable[[str], str]) -> None:
        self._frontend = frontend
        self._file = frontend.dockerfile
        self._request = frontend.request
        self._stage = stage
        self._state = state
        self._next_name = next_name

    def dispatch(self, instruction: Instruction, lines: SourceLines) -> None:
        """Apply one instruction. Raises DockerfileError or UnsupportedError, with the place."""
        match instruction:
            case ast.Run():
                self._run(instruction, lines)
            case ast.Copy():
                self._copy(instruction, lines)
            case ast.Add():
                self._add(instruction, lines)
            case ast.Workdir():
                self._workdir(instruction, lines)
            case ast.Env():
                self._env(instruction)
            case ast.Arg():
                self._arg(instruction)
            case ast.Label():
                self._label(instruction)
            case ast.Expose():
                self._expose(instruction)
            case ast.Volume():
                self._volume(instruction)
            case ast.Healthcheck():
                self._healthcheck(instruction)
            case ast.Cmd():
                argv = self._argv(instruction.command)
                self._state.has_own_cmd = True
                self._state.set(cmd=argv, args_escaped=True)
                self._record(f"CMD {gotext.quote_list(argv)}")
            case ast.Entrypoint():
                argv = self._argv(instruction.command)
                self._state.set(entrypoint=argv, **({} if self._state.has_own_cmd else {"cmd": ()}))
                self._record(f"ENTRYPOINT {gotext.quote_list(argv)}")
            case ast.Shell():
                self._state.set(shell=instruction.argv)
                self._record(f"SHELL [{' '.join(instruction.argv)}]")
            case ast.User():
                user = self._expand(instruction.user)
                self._state.set(user=user)
                self._record(f"USER {user}")
            case ast.StopSignal():
                self._stop_signal(instruction)
            case ast.Maintainer():
                self._state.set_author(instruction.maintainer.text)
                self._record(f"MAINTAINER {instruction.maintainer.text}")
            case ast.Onbuild():
                self._state.set(on_build=(*self._state.config.on_build, instruction.trigger))
            case _:
                raise AssertionError(f"no rule for {instruction.NAME}")

    # Instructions that make a layer

    def _run(self, run: ast.Run, lines: SourceLines) -> None:
        self._refuse_run_flags(run)
        args, files, shown = self._run_arguments(run)
        mounts, sources = self._run_mounts(run, lines)
        op = RunOp(
            args=args,
            env=tuple(self._state.variables.items()),
            cwd=_below(self._state.config.working_dir.rstrip("/"), "."),
            user=self._state.config.user,
            network="none" if run.network == "none" else self._request.network,
            extra_hosts=self._request.add_hosts,
            untracked_env=proxy_env(self._request.build_args, self._state.declared_args),
            files=files,
            mounts=mounts,
        )
        self._add_vertex(op, shown, lines, sources)
        self._record(self._state.run_description(args) + " # buildkit", layer=True)

    def _refuse_run_flags(self, run: ast.Run) -> None:
        if run.devices:
            raise self._unsupported("RUN --device", run.devices[0].span)
        security, network = run.flag("security"), run.flag("network")
        if security is not None and run.security == "insecure":
            raise self._unsupported("RUN --security=insecure", security.span)
        if network is not None and run.network == "host":
            raise self._unsupported("RUN --network=host", network.span)

    def _run_mounts(self, run: ast.Run, lines: SourceLines) -> tuple[tuple[RunMount, ...], tuple[Vertex, ...]]:
        """The mounts of a RUN, and the vertices that they read from."""
        if not run.mounts:
            return (), ()
        from dockerfile_grammar.mounts import parse_mount

        mounts: list[RunMount] = []
        sources: list[Vertex] = []
        for flag in run.mounts:
            mount = parse_mount(flag, self._file.source, lambda text: self._expand(Word(text, flag.span)))  # noqa: B023
            mounts.append(self._run_mount(mount, flag, lines, sources))
        return mounting_order(mounts), tuple(sources)

    def _run_mount(self, mount: Mount, flag: ast.Flag, lines: SourceLines, sources: list[Vertex]) -> RunMount:
        """One mount; a vertex that it reads from is put at the end of ``sources``."""
        if mount.type == "ssh":
            raise self._unsupported("RUN --mount=type=ssh", flag.span)
        if mount.type == "secret":
            return secret_mount(mount)
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
        if mount.from_ == "scratch":
            raise self._file.error("RUN --mount: scratch has no files", flag.span, hint="leave from= out")
        if mount.from_:
            sources.append(self._copy_source(Word(mount.from_, flag.span), "from"))
        elif mount.type == "bind":
            sources.append(self._frontend.context_vertex(path, lines))
            path = CONTEXT_TARGET
        source = len(sources) - 1
        if mount.type == "cache":
            return cache_mount(mount, target, source if mount.from_ else None, path)
        return BindMount(target, source, path, mount.readonly)

    def _run_arguments(self, run: ast.Run) -> tuple[tuple[str, ...], tuple[RunFile, ...], str]:
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

    def _copy(self, copy: ast.Copy, lines: SourceLines) -> None:
        sources = (self._copy_source(copy.from_),) if copy.from_ is not None else ()
        spec = msgspec.structs.replace(self._common_spec(copy), parents=copy.parents, from_context=not sources)
        self._add_copy(copy, spec, lines, sources)

    def _add(self, add: ast.Add, lines: SourceLines) -> None:
        spec = msgspec.structs.replace(self._common_spec(add), extract_archives=add.unpack is not False)
        self._refuse_add_forms(add, spec.sources)
        self._add_copy(add, spec, lines, ())

    def _common_spec(self, copy: ast.Copy | ast.Add) -> CopySpec:
        return CopySpec(
            sources=tuple(self._expand(word) for word in copy.sources),
            destination=_below(self._state.config.working_dir, self._expand(copy.destination)),
            heredocs=tuple((heredoc.name, self._body(heredoc)) for heredoc in copy.contents),
            chown=self._expand(copy.chown) if copy.chown else "",
            chmod=self._expand(copy.chmod) if copy.chmod else "",
            link=copy.link,
            exclude=tuple(word.text for word in copy.exclude),
        )

    def _add_copy(
        self, copy: ast.Copy | ast.Add, spec: CopySpec, lines: SourceLines, sources: tuple[Vertex, ...]
    ) -> None:
        self._add_vertex(CopyOp(spec, self._request.source_date_epoch), copy.original, lines, sources)
        words = [copy.NAME]
        words += ["--parents"] if spec.parents else []
        words += [f"--chown={spec.chown}"] if spec.chown else []
        words += [f"--chmod={spec.chmod}"] if spec.chmod else []
        words += [*spec.sources, *(f"<<{name}" for name, _ in spec.heredocs), self._expand(copy.destination)]
        self._record(" ".join(words) + " # buildkit", layer=True)

    def _refuse_add_forms(self, add: ast.Add, sources: tuple[str, ...]) -> None:
        for word, source in zip(add.sources, sources, strict=True):
            if source.startswith(_REMOTE_PREFIXES) or (source.endswith(".git") and ":" in source):
                raise self._unsupported("ADD of a URL or git repository", word.span)
        for name, value in (("checksum", add.checksum), ("keep-git-dir", add.keep_git_dir)):
            flag = add.flag(name)
            if value and flag is not None:
                raise self._unsupported(f"ADD --{name}", flag.span)

    def _copy_source(self, name: Word, flag: str = "--from") -> Vertex:
        """The vertex that ``flag`` means: an earlier stage by name or number, else an image."""
        text = name.text
        found = self._frontend.earlier_stage(text, self._stage.index)
        if found is None and text.isdecimal():
            if int(text) >= len(self._file.stages):
                raise self._file.error(
                    f"{flag}={text}: there is no stage {text}", name.span, hint="stages count from 0"
                )
            found = int(text)
        later = self._file.stage(text)
        if found is None and later is not None:
            found = later.index
        if found is None:
            return self._frontend.image_vertex(text, name, self._stage)
        if found >= self._stage.index:
            which = "the stage itself" if found == self._stage.index else "a later stage"
            raise self._file.error(f"{flag}={text} is {which}", name.span, hint="copy from an earlier stage")
        tail = self._frontend.stage_state(found).tail
        if tail is None:
            raise self._file.error(f"{flag}={text}: that stage has no files", name.span)
        return tail

    def _workdir(self, workdir: ast.Workdir, lines: SourceLines) -> None:
        text = self._expand(workdir.path)
        if not text:
            raise self._file.error("WORKDIR is empty after expansion", workdir.path.span)
        path = _below(self._state.config.working_dir, text.rstrip("/") or "/")
        # As BuildKit: an absolute path goes into the config as it is written.
        written = text if text.startswith("/") else path
        self._state.set(working_dir=written)
        if path == "/":
            self._next_name(workdir.original)
            self._record(f"WORKDIR {written}")
            return
        op = WorkdirOp(path, self._state.config.user, self._request.source_date_epoch)
        self._add_vertex(op, workdir.original, lines)
        self._record(f"WORKDIR {written}", layer=True)

    # Instructions that change the config only

    def _env(self, instruction: ast.Env) -> None:
        pairs = [(self._expand(item.name), self._expand(item.value)) for item in instruction.assignments]
        self._state.set_env(pairs)
        self._record("ENV " + " ".join(f"{name}={value}" for name, value in pairs))

    def _arg(self, instruction: ast.Arg) -> None:
        shown = []
        for name, default, value in self._frontend.evaluate_arg(instruction, self._state.variables):
            shown.append(name if default is None else f"{name}={default}")
            self._state.declare_arg(name, self._frontend.global_args.get(name) if value is None else value)
        self._record("ARG " + " ".join(shown))

    def _label(self, instruction: ast.Label) -> None:
        pairs = [(self._expand(item.name), self._expand(item.value)) for item in instruction.assignments]
        self._state.set(labels={**self._state.config.labels, **dict(pairs)})
        self._record("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))

    def _expose(self, instruction: ast.Expose) -> None:
        ports: set[str] = set()
        for word in instruction.ports:
            for text in expand_words(word.text, self._state.variables, escape=self._file.escape):
                try:
                    ports.update(parse_port(text))
                except ShiplapError as error:
                    raise self._file.error(error.message, word.span, hint=error.hint) from None
        self._state.set(exposed_ports={**self._state.config.exposed_ports, **{port: {} for port in ports}})
        self._record(f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(ports))}]")

    def _volume(self, instruction: ast.Volume) -> None:
        paths = [self._expand(word).strip() for word in instruction.paths]
        for path, word in zip(paths, instruction.paths, strict=True):
            if not path:
                raise self._file.error("VOLUME is empty after expansion", word.span)
        self._state.set(volumes={**self._state.config.volumes, **{path: {} for path in paths}})
        self._record(f"VOLUME [{' '.join(paths)}]")

    def _stop_signal(self, instruction: ast.StopSignal) -> None:
        signal = self._expand(instruction.signal)
        try:
            check_signal(signal)
        except ShiplapError as error:
            raise self._file.error(error.message, instruction.signal.span, hint=error.hint) from None
        self._state.set(stop_signal=signal)
        self._record(f"STOPSIGNAL {signal}")

    def _healthcheck(self, check: ast.Healthcheck) -> None:
        command = check.command
        if command is None:
            test: tuple[str, ...] = ("NONE",)
        elif isinstance(command, ast.ShellForm):
            test = ("CMD-SHELL", command.text)
        else:
            test = ("CMD", *command.argv)
        config = HealthcheckConfig(
            test=test,
            interval_ns=check.interval_ns,
            timeout_ns=check.timeout_ns,
            start_period_ns=check.start_period_ns,
            start_interval_ns=check.start_interval_ns,
            retries=check.retries,
        )
        self._state.set(healthcheck=config)
        times = (check.interval_ns, check.timeout_ns, check.start_period_ns, check.start_interval_ns)
        durations = " ".join(f'"{gotext.duration(time)}"' for time in times)
        self._record(f"HEALTHCHECK &{{{gotext.quote_list(test)} {durations} {gotext.quote_rune(check.retries)}}}")

    # Helpers

    def _argv(self, command: ast.Command) -> tuple[str, ...]:
        return self._state.shell(command.text) if isinstance(command, ast.ShellForm) else command.argv

    def _expand(self, word: Word) -> str:
        return self._frontend.expand(word, self._state.variables)

    def _body(self, heredoc: ast.Heredoc) -> bytes:
        if not heredoc.expand:
            return heredoc.text.encode()
        return expand_body(heredoc.text, self._state.variables).text.encode()  # as BuildKit: whatever escape= says

    def _add_vertex(self, op: Op, text: str, lines: SourceLines, sources: tuple[Vertex, ...] = ()) -> None:
        vertex = self._frontend.vertex(op, self._next_name(text), self._stage, lines, self._state.tail, sources)
        self._state.add(vertex)

    def _record(self, created_by: str, *, layer: bool = False) -> None:
        self._state.record(created_by, layer=layer)

    def _unsupported(self, what: str, span: Span) -> UnsupportedError:
        error = self._file.error(f"{what} is not supported yet", span)
        return UnsupportedError(error.render(), hint="docs/dockerfile.md lists what this version supports")


def _below(workdir: str, destination: str) -> str:
    """An absolute destination; a trailing slash stays, and "." means the directory itself."""
    path = posixpath.normpath(posixpath.join("/", workdir, destination))
    path = "/" + path.lstrip("/")
    is_directory = destination in ("", ".") or destination.endswith(("/", "/."))
    return path + "/" if is_directory and path != "/" else path


def _is_only_a_heredoc(command: str) -> bool:
    """Whether a RUN is nothing but ``<<NAME``: its body is then the script, not the input of a command."""
    return re.fullmatch(r"\d*<<-?\s*(?:'[^']*'|\"[^\"]*\"|[^\s<>|&;'\"]+)", command.strip()) is not None


def _summary(text: str) -> str:
    """A heredoc in progress output: its first line that is no comment, shortened."""
    lines = [line.strip() for line in text.splitlines()]
    shown = [line for line in lines if line and not line.startswith("#!")] or [""]
    return shown[0] if len(lines) == 1 and len(shown[0]) <= 60 else f"{shown[0][:60]}..."
