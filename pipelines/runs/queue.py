"""The queue's producer side, and the settings that it shares with the worker.

A message says no more than "there is something to do", with the number of the run that made it. A worker that gets one
claims the best run that it may have, in the database. So it matters only that there are at least as many messages as
waiting runs. ``Queue.top_up`` sees to that when Redis has lost some. Duplicates do no harm.

The settings follow from that. Redis gives an unacknowledged message to another worker only after a time longer than any
run may take: the worker's lease (``pipelines.runs.reaper``) shows its death long before. Results of tasks are kept
nowhere.
"""

from __future__ import annotations

import itertools
import logging
import re
import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from core.errors import SettingsError
from pipelines.errors import InvalidRequestError, QueueUnreachableError
from pipelines.model import MAX_TIMEOUT_S
from pipelines.redisfaults import as_int, translated

TASK_NAME: Final = "shiplap.run"
MAX_WORKER_LABELS: Final = 5  # a worker consumes one queue for each subset of its labels
HARD_LIMIT_S: Final = MAX_TIMEOUT_S + 600
_QUEUE: Final = "shiplap"
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,38}[a-z0-9])?")
_OF_CELERY: Final = (OperationalError, ConnectionError)  # what its client raises when Redis is away
_log = logging.getLogger(__name__)


def celery_app(redis_url: str) -> Celery:
    """The Celery application, without tasks. redis_url: as SHIPLAP_REDIS_URL."""
    app = Celery("shiplap", broker=_broker_url(redis_url), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "health_check_interval": 25,
            "interval_start": 0,
            "max_retries": 1,  # of the sender; the reaper sends again what was not sent
            "retry_on_timeout": True,
            "socket_connect_timeout": 3,
            **_over_the_network(redis_url),
            "socket_timeout": 30,
            "visibility_timeout": HARD_LIMIT_S + 3600,
        },
        task_acks_late=True,
        task_create_missing_queues=True,
        task_default_queue=_QUEUE,
        task_ignore_result=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        task_time_limit=HARD_LIMIT_S,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


def redis_client(redis_url: str) -> redis.Redis:
    """A client with time-outs, for log streams and depths. Raises SettingsError for what is no URL of Redis."""
    try:
        return redis.Redis.from_url(
            redis_url,
            health_check_interval=25,
            socket_connect_timeout=3,
            socket_timeout=10,
            retry=None,
            **_over_the_network(redis_url),
        )
    except ValueError as error:
        raise SettingsError(
            f"SHIPLAP_REDIS_URL is {redis_url!r}", hint="write unix:///PATH or redis://HOST[:PORT][/DATABASE]"
        ) from error


def _over_the_network(redis_url: str) -> dict[str, Any]:
    """The options by which a connection notices that the other host, or the way to it, is gone, as for PostgreSQL."""
    if urlsplit(redis_url).scheme == "unix":
        return {}
    options = {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 5,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 15_000,
    }
    return {"socket_keepalive": True, "socket_keepalive_options": options}


def check_labels(labels: Sequence[str], *, limit: int = MAX_WORKER_LABELS) -> tuple[str, ...]:
    """The labels sorted and without doubles. Raises InvalidRequestError."""
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise InvalidRequestError(
                f"invalid worker label {label!r}", hint="labels have lower-case letters, digits, '.', '_' and '-'"
            )
    found = tuple(sorted(set(labels)))
    if len(found) > limit:
        raise InvalidRequestError(f"{len(found)} worker labels, at most {limit} are possible")
    return found


def queue_name(labels: Sequence[str]) -> str:
    """The queue of the runs that ask for just these labels."""
    return "+".join([f"{_QUEUE}.{labels[0]}", *labels[1:]]) if labels else _QUEUE


def queues_of_worker(labels: Sequence[str]) -> list[str]:
    """All queues whose runs a worker with these labels may have."""
    return [queue_name(some) for count in range(len(labels) + 1) for some in itertools.combinations(labels, count)]


class Queue:
    """Sends messages. Thread-safe."""

    def __init__(self, redis_url: str) -> None:
        self._app = celery_app(redis_url)
        self._redis = redis_client(redis_url)

    def send(self, number: int, labels: Sequence[str] = ()) -> None:
        """Say that run ``number`` waits. Raises QueueUnreachableError."""
        with translated(*_OF_CELERY):
            self._app.send_task(TASK_NAME, args=[number], queue=queue_name(labels), retry=False, ignore_result=True)

    def try_send(self, number: int, labels: Sequence[str] = ()) -> bool:
        """``send``, but when Redis is away it only logs that: the reaper tops up when Redis is back."""
        try:
            self.send(number, labels)
        except QueueUnreachableError as error:
            _log.warning("run %d waits for Redis to come back: %s", number, error)
            return False
        return True

    def top_up(self, waiting: dict[tuple[str, ...], list[int]]) -> int:
        """Send the messages that are missing. Returns how many. waiting: numbers of the queued runs by their labels."""
        sent = 0
        for labels, numbers in waiting.items():
            missing = len(numbers) - self.depth(labels)
            for number in numbers[: max(0, missing)]:
                self.send(number, labels)
                sent += 1
        return sent

    def depth(self, labels: Sequence[str] = ()) -> int:
        """How many messages wait. Raises QueueUnreachableError."""
        with translated(*_OF_CELERY):
            return as_int(self._redis.llen(queue_name(labels)))

    def ping(self) -> None:
        """Raises QueueUnreachableError unless Redis answers."""
        with translated(*_OF_CELERY):
            self._redis.ping()

    def close(self) -> None:
        self._app.close()
        self._redis.close()


def _broker_url(redis_url: str) -> str:
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        return f"redis+socket://{parts.path}"
    if parts.scheme in ("redis", "rediss"):
        return redis_url
    raise SettingsError(
        f"SHIPLAP_REDIS_URL is {redis_url!r}", hint="write unix:///PATH or redis://HOST[:PORT][/DATABASE]"
    )
