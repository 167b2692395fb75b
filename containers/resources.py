"""What a container, and each of its processes, may use, as data. (A build that the cache answers imports only this.)"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """What all processes of a container together may use; 0 is no limit.

    memory_swap_bytes: memory and swap together; 0 is twice the memory, -1 any amount.
    cpus: how many at a time, as in 1.5.
    cpu_shares: weight among others that are busy, docker's 2 to 262144, where 1024 is usual.
    pids: processes and threads.
    optional: controllers (``memory``, ``cpu``, ``pids``) that a host may lack: their limits then do not hold.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    pids: int = 0
    optional: tuple[str, ...] = ()


class ResourceLimit(NamedTuple):
    """One of setrlimit(2)'s limits for each process. name: as in ``nofile``; soft, hard: -1 is no limit."""

    name: str
    soft: int
    hard: int
