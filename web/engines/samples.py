"""The last minutes of containers' processors and memory, taken only while somebody looks at them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from core.errors import ShiplapError
from web.engines.client import EngineAwayError, EngineClient

EACH_S: Final = 5.0
_KEPT: Final = 60
_MOST: Final = 100
"""Containers that are looked at: of more, those that were asked for last."""

_LOOKED_AT_S: Final = 30.0
_PATIENCE_S: Final = 5.0


class Sample(NamedTuple):
    """One look. cpu: of one processor, in per cent; None: the first look says nothing of it. memory, limit: bytes.

    received, sent: bytes of all networks since the start. processes: how many there are.
    """

    at: float
    cpu: float | None
    memory: int
    limit: int
    received: int
    sent: int
    processes: int


class Samples:
    """Of one engine. Thread-safe."""

    def __init__(self, client: EngineClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, float] = {}
        self._kept: dict[str, deque[Sample]] = {}
        self._used: dict[str, tuple[float, int]] = {}
        self._is_running = False

    def of(self, containers: Iterable[str]) -> dict[str, Sequence[Sample]]:
        """What is known of running containers by their IDs, the oldest first. More is taken from now on."""
        wanted = list(containers)[:_MOST]
        with self._lock:
            now = self._clock()
            for each in wanted:
                self._asked[each] = now
            if wanted and not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="samples of containers", daemon=True).start()
            return {each: tuple(self._kept.get(each, ())) for each in wanted}

    def take(self) -> bool:
        """Look at each container that somebody looks at. Returns whether there is any."""
        with self._lock:
            now = self._clock()
            self._asked = {each: at for each, at in self._asked.items() if now - at < _LOOKED_AT_S}
            wanted = sorted(self._asked, key=self._asked.__getitem__)[-_MOST:]
            for each in set(self._kept) - set(wanted):
                del self._kept[each]
                self._used.pop(each, None)
            if not wanted:
                self._is_running = False
        for each in wanted:
            try:
                document = self._client.get(
                    f"/containers/{each}/stats", patience_s=_PATIENCE_S, stream="false", **{"one-shot": "true"}
                )
            except EngineAwayError:
                break
            except ShiplapError:  # it has gone, or has stopped
                continue
            self._note(each, document)
        return bool(wanted)

    def _run(self) -> None:
        try:
            while self.take():
                time.sleep(EACH_S)
        except BaseException:  # whoever looks next begins anew
            with self._lock:
                self._is_running = False
            raise

    def _note(self, container: str, document: Any) -> None:
        found = sample_of(document, self._used.get(container))
        if found is None:
            return
        sample, used = found
        with self._lock:
            self._used[container] = (sample.at, used)
            self._kept.setdefault(container, deque(maxlen=_KEPT)).append(sample)


def sample_of(document: Any, before: tuple[float, int] | None) -> tuple[Sample, int] | None:
    """What docker's statistics say, and the processor time in nanoseconds; None: the container does not run.

    before: the moment of the last look, in seconds, and the processor time then.
    """
    try:
        used = int(document["cpu_stats"]["cpu_usage"]["total_usage"])
        at = datetime.fromisoformat(document["read"]).timestamp()
        memory = document.get("memory_stats") or {}
        networks = (document.get("networks") or {}).values()
        cpu = None
        if before is not None and at > before[0] and used >= before[1]:
            cpu = 100.0 * (used - before[1]) / 1e9 / (at - before[0])
        return Sample(
            at,
            cpu,
            int(memory.get("usage", 0)),
            int(memory.get("limit", 0)),
            sum(int(each.get("rx_bytes", 0)) for each in networks),
            sum(int(each.get("tx_bytes", 0)) for each in networks),
            int((document.get("pids_stats") or {}).get("current", 0)),
        ), used
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
