"""Several transfers at a time; the first that fails ends the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from registry.errors import TransferCancelledError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    act: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int, stop: threading.Event, name: str
) -> list[_Result]:
    """``[act(item) for item in items]`` by threads. Once all have ended, raises the error of the first that failed.

    stop: makes an ``act`` under way end with TransferCancelledError. It is set here when another one failed or the
    caller is interrupted, and cleared again unless the caller had set it.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
    from contextvars import copy_context

    with ThreadPoolExecutor(max(1, min(workers, len(items))), thread_name_prefix=name) as pool:
        futures = [pool.submit(copy_context().run, act, item) for item in items]
        by_caller = False
        try:
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            by_caller = stop.is_set()
            if any(not future.done() or future.exception() is not None for future in futures):
                stop.set()
                pool.shutdown(cancel_futures=True)
    # Errors from before ``stop`` was set come first: what ``stop`` leads to need not be a TransferCancelledError.
    by_age = sorted(futures, key=lambda future: future not in ended)
    errors = [error for future in by_age if not future.cancelled() and (error := future.exception()) is not None]
    if errors:
        if not by_caller:
            stop.clear()
        raise next((error for error in errors if not isinstance(error, TransferCancelledError)), errors[0])
    return [future.result() for future in futures]
