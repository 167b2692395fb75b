"""What each instruction does to its stage: config, variables, history, and a step where it makes a layer."""

from __future__ import annotations

from builder import paths
from builder.frontend.copy import plan_copy
from builder.frontend.planning import PlannedStep, Planning
from builder.frontend.ports import parse_port
from builder.frontend.run import plan_run
from builder.frontend.state import StageState
from builder.frontend.stopsignal import check_signal
from builder.graph.vertices import SourceLines, WorkdirOp
from core import gotext
from core.errors import ShiplapError
from dockerfile_grammar import Instruction, ast
from images.oci import Healthcheck as HealthcheckConfig


def apply(planning: Planning, instruction: Instruction, lines: SourceLines) -> None:
    """Apply the stage's next instruction.

    Raises errors with the place: DockerfileError, UnsupportedError, EntitlementError.
    """
    match instruction:
        case ast.Run():
            planning.add(plan_run(planning, instruction, lines), lines)
        case ast.Copy() | ast.Add():
            planning.add(plan_copy(planning, instruction, lines), lines)
        case ast.Workdir():
            _workdir(planning, instruction, lines)
        case _:
            _configure(planning, instruction)


def _workdir(planning: Planning, workdir: ast.Workdir, lines: SourceLines) -> None:
    # As BuildKit: an absolute path goes into the config as written; an empty path changes nothing.
    state = planning.state
    written = planning.expand(workdir.path) or state.config.working_dir or "/"
    if not written.startswith("/"):
        written = "/" + paths.clean(f"{state.config.working_dir}/{written}")
    path = "/" + paths.clean(written)
    state.set(working_dir=written)
    if path == "/":
        planning.skip()
        state.record(f"WORKDIR {written}")
        return
    op = WorkdirOp(path, state.config.user, planning.request.source_date_epoch)
    planning.add(PlannedStep(op, workdir.original, f"WORKDIR {written}"), lines)


# Instructions that change the config only


def _configure(planning: Planning, instruction: Instruction) -> None:
    state = planning.state
    match instruction:
        case ast.Env():
            pairs = _pairs(planning, instruction)
            state.set_env(pairs)
            state.record("ENV " + " ".join(f"{name}={value}" for name, value in pairs))
        case ast.Arg():
            _arg(planning, instruction)
        case ast.Label():
            pairs = _pairs(planning, instruction)
            state.set_labels(dict(pairs))
            state.record("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))
        case ast.Expose():
            _expose(planning, instruction)
        case ast.Volume():
            _volume(planning, instruction)
        case ast.Healthcheck():
            _healthcheck(state, instruction)
        case ast.Cmd():
            argv = _argv(state, instruction.command)
            state.has_own_cmd = True
            state.set(cmd=argv, args_escaped=True)
            state.record(f"CMD {gotext.quote_list(argv)}")
        case ast.Entrypoint():
            argv = _argv(state, instruction.command)
            state.set(entrypoint=argv, **({} if state.has_own_cmd else {"cmd": ()}))
            state.record(f"ENTRYPOINT {gotext.quote_list(argv)}")
        case ast.Shell():
            state.set(shell=instruction.argv)
            state.record(f"SHELL [{' '.join(instruction.argv)}]")
        case ast.User():
            user = planning.expand(instruction.user)
            state.set(user=user)
            state.record(f"USER {user}")
        case ast.StopSignal():
            _stop_signal(planning, instruction)
        case ast.Maintainer():
            state.set_author(instruction.maintainer.text)
            state.record(f"MAINTAINER {instruction.maintainer.text}")
        case ast.Onbuild():
            state.set(on_build=(*state.config.on_build, instruction.trigger))
        case _:
            raise AssertionError(f"no rule for {instruction.NAME}")


def _arg(planning: Planning, instruction: ast.Arg) -> None:
    state = planning.state
    shown = []
    for _, name, default, value in planning.words.arg(instruction, state.variables):
        shown.append(name if default is None else f"{name}={default}")
        state.declare_arg(name, planning.global_args.get(name) if value is None else value)
    state.record("ARG " + " ".join(shown))


def _expose(planning: Planning, instruction: ast.Expose) -> None:
    state = planning.state
    ports: set[str] = set()
    for word in instruction.ports:
        for text in dict.fromkeys(
            planning.words.expand_words(word, state.variables)
        ):  # the same word may come 10⁵ times
            try:
                ports.update(parse_port(text))
            except ShiplapError as error:
                raise planning.dockerfile.error(error.message, word.span, hint=error.hint) from None
    state.set(exposed_ports={**state.config.exposed_ports, **{port: {} for port in ports}})
    state.record(f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(ports))}]")


def _volume(planning: Planning, instruction: ast.Volume) -> None:
    state = planning.state
    volumes = [planning.expand(word).strip() for word in instruction.paths]
    for path, word in zip(volumes, instruction.paths, strict=True):
        if not path:
            raise planning.dockerfile.error("VOLUME is empty after expansion", word.span)
    state.set(volumes={**state.config.volumes, **{path: {} for path in volumes}})
    state.record(f"VOLUME [{' '.join(volumes)}]")


def _stop_signal(planning: Planning, instruction: ast.StopSignal) -> None:
    state = planning.state
    signal = planning.expand(instruction.signal)
    try:
        check_signal(signal)
    except ShiplapError as error:
        raise planning.dockerfile.error(error.message, instruction.signal.span, hint=error.hint) from None
    state.set(stop_signal=signal)
    state.record(f"STOPSIGNAL {signal}")


def _healthcheck(state: StageState, check: ast.Healthcheck) -> None:
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
    state.set(healthcheck=config)
    times = (check.interval_ns, check.timeout_ns, check.start_period_ns, check.start_interval_ns)
    durations = " ".join(f'"{gotext.duration(time)}"' for time in times)
    state.record(f"HEALTHCHECK &{{{gotext.quote_list(test)} {durations} {gotext.quote_rune(check.retries)}}}")


def _pairs(planning: Planning, instruction: ast.Env | ast.Label) -> list[tuple[str, str]]:
    return [(planning.expand(item.name), planning.expand(item.value)) for item in instruction.assignments]


def _argv(state: StageState, command: ast.Command) -> tuple[str, ...]:
    return state.shell(command.text) if isinstance(command, ast.ShellForm) else command.argv
