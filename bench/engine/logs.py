"""A container that prints as fast as it can: its lines, and its name server and its published port meanwhile."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.engine.engines import TRAFFIC, Engine
from bench.engine.hosts import HOST
from bench.engine.image import PROGRAM, interpreter
from bench.engine.network import beside, wait_until_ready
from bench.figures import Figure
from bench.tools import ToolError

_PORT: Final = 9000
_PUBLISHED: Final = 18_001
_NAMES: Final = "127.0.0.11"
_SCRIPT: Final = '"$0" "$1" serve {port} & while [ ! -e /go ]; do sleep 0.1; done; exec "$0" "$1" lines {seconds}'
_MORE_S: Final = 4
_POLL_S: Final = 0.02
_END_S: Final = 60.0


def lines(engines: Sequence[Engine], seconds: int) -> list[Figure]:
    """One container prints; a question of its own to its name server and a connection to its port, every 20 ms."""
    figures = []
    for engine in engines:
        engine.command("network", "create", "known")
        try:
            quiet = _measured(engine, seconds, asks=False)
            loud = _measured(engine, seconds, asks=True)
        finally:
            engine.clear()
            engine.command("network", "rm", "known")
        is_ours = engine.name == "shiplap"
        name = engine.name
        figures += [
            Figure(f"log-{name}", f"lines logged: {name}", quiet["rate"], "/s", [quiet["rate"]],
                   150_000.0 if is_ours else None, at_least=True),
            Figure(f"log-beside-{name}", "… while it is asked", loud["rate"], "/s", [loud["rate"]]),
        ]  # fmt: skip
        for key, title in (("dns", "a name's answer, 99 of 100"), ("connects", "a new connection, 99 of 100")):
            samples = [1000 * each for each in loud[key]]
            value = statistics.quantiles(samples, n=100, method="inclusive")[-1]
            bound = 20.0 if is_ours else None
            figures.append(Figure(f"log-{key}-{name}", f"… meanwhile {title}", value, "ms", samples, bound))
    return figures


def _measured(engine: Engine, seconds: int, *, asks: bool) -> dict[str, Any]:
    """Lines a second, all of them logged, for what they end with is; and the answers meanwhile."""
    name = "loud" if asks else "quiet"
    script = _SCRIPT.format(port=_PORT, seconds=seconds + _MORE_S)
    program = (str(interpreter()), PROGRAM)
    engine.command("run", "-d", "--name", name, "--network", "known", "-p", f"{_PUBLISHED}:{_PORT}", TRAFFIC,
                   "sh", "-c", script, *program)  # fmt: skip
    asked: dict[str, Any] = {"dns": [], "connects": []}
    failed: list[Exception] = []

    def ask() -> None:
        try:
            asked["connects"] = beside(engine, "answers", HOST, str(_PUBLISHED), "-", str(seconds))["connects"]
        except (ToolError, ValueError) as error:
            failed.append(error)

    wait_until_ready(engine, name)
    engine.command("exec", name, "touch", "/go")
    if asks:
        other = threading.Thread(target=ask)
        other.start()
        said = engine.command("exec", name, *program, "answers", _NAMES, "-", name, str(seconds))
        asked["dns"] = json.loads(said)["dns"]
        other.join()
    end = time.monotonic() + _END_S
    while engine.command("inspect", "-f", "{{.State.Running}}", name) == "true":
        if time.monotonic() > end:
            raise ToolError(f"{engine.name}: the container still prints after {_END_S:g} s")
        time.sleep(_POLL_S)
    if failed:
        raise failed[0]
    try:
        last = json.loads(engine.command("logs", "--tail", "1", name))
    except ValueError as error:
        raise ToolError(f"{engine.name}: the last line is not in the log") from error
    engine.command("rm", "-f", name)
    return {**asked, "rate": last["lines"] / last["seconds"]}
