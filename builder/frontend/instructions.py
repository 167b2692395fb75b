"""What each instruction does to its stage: config, variables, history, and a vertex where it makes a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder import paths
from builder.frontend import gotext
from builder.frontend.copy import CopyPlanner
from builder.frontend.ports import parse_port
from builder.frontend.run import RunPlanner
from builder.frontend.state import StageState
from builder.frontend.stopsignal import check_signal
from builder.graph.vertices import Op, SourceLines, Vertex, WorkdirOp
from core.errors import ShiplapError
from dockerfile_grammar import Instruction, Stage, Word, ast
from images.oci import Healthcheck as HealthcheckConfig

if TYPE_CHECKING:
    from builder.frontend.stages import Frontend


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
        """Apply one instruction. Raises errors with the place: DockerfileError, UnsupportedError, EntitlementError."""
        match instruction:
            case ast.Run():
                self._run(instruction, lines)
            case ast.Copy() | ast.Add():
                self._copy(instruction, lines)
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
        op, sources, shown = RunPlanner(self._frontend, self._stage, self._state).plan(run, lines)
        self._add_vertex(op, shown, lines, sources)
        self._record(self._state.run_description(op.args) + " # buildkit", layer=True)

    def _copy(self, copy: ast.Copy | ast.Add, lines: SourceLines) -> None:
        planned = CopyPlanner(self._frontend, self._stage, self._state).plan(copy, lines)
        self._add_vertex(planned.op, copy.original, lines, planned.sources)
        self._record(planned.created_by, layer=True)

    def _workdir(self, workdir: ast.Workdir, lines: SourceLines) -> None:
        # As BuildKit: an absolute path goes into the config as it is written, and an empty one changes nothing.
        written = self._expand(workdir.path) or self._state.config.working_dir or "/"
        if not written.startswith("/"):
            written = "/" + paths.clean(f"{self._state.config.working_dir}/{written}")
        path = "/" + paths.clean(written)
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
        for _, name, default, value in self._frontend.evaluate_arg(instruction, self._state.variables):
            shown.append(name if default is None else f"{name}={default}")
            self._state.declare_arg(name, self._frontend.global_args.get(name) if value is None else value)
        self._record("ARG " + " ".join(shown))

    def _label(self, instruction: ast.Label) -> None:
        pairs = [(self._expand(item.name), self._expand(item.value)) for item in instruction.assignments]
        self._state.set_labels(dict(pairs))
        self._record("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))

    def _expose(self, instruction: ast.Expose) -> None:
        ports: set[str] = set()
        for word in instruction.ports:
            for text in self._frontend.words.expand_words(word, self._state.variables):
                try:
                    ports.update(parse_port(text))
                except ShiplapError as error:
                    raise self._file.error(error.message, word.span, hint=error.hint) from None
        self._state.set(exposed_ports={**self._state.config.exposed_ports, **{port: {} for port in ports}})
        self._record(f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(ports))}]")

    def _volume(self, instruction: ast.Volume) -> None:
        volumes = [self._expand(word).strip() for word in instruction.paths]
        for path, word in zip(volumes, instruction.paths, strict=True):
            if not path:
                raise self._file.error("VOLUME is empty after expansion", word.span)
        self._state.set(volumes={**self._state.config.volumes, **{path: {} for path in volumes}})
        self._record(f"VOLUME [{' '.join(volumes)}]")

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
        return self._frontend.words.expand(word, self._state.variables)

    def _add_vertex(self, op: Op, text: str, lines: SourceLines, sources: tuple[Vertex, ...] = ()) -> None:
        vertex = self._frontend.vertex(op, self._next_name(text), self._stage, lines, self._state.tail, sources)
        self._state.add(vertex)

    def _record(self, created_by: str, *, layer: bool = False) -> None:
        self._state.record(created_by, layer=layer)
