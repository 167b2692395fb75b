"""Prometheus's text, from the numbers that the database has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from pipelines.metrics import Metrics, snapshot
from pipelines.runs.jobtimes import BOUNDS_S, JobTimes

if TYPE_CHECKING:
    from pipelines.service import Service


def exposition(service: Service) -> bytes:
    """All metrics of the service, as of now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot(service)))
    return generate_latest(registry)


def exposition_of(times: Sequence[JobTimes]) -> bytes:
    """The times of a project's jobs."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_JobTimes(times))
    return generate_latest(registry)


class _JobTimes:
    def __init__(self, times: Sequence[JobTimes]) -> None:
        self._times = times

    def collect(self) -> Iterator[Metric]:
        waited = HistogramMetricFamily(
            "shiplap_job_wait_seconds", "From being queued to being taken by a worker.", labels=["pipeline", "job"]
        )
        took = HistogramMetricFamily(
            "shiplap_job_duration_seconds", "From being taken to the end.", labels=["pipeline", "job"]
        )
        for each in self._times:
            for family, found in ((waited, each.waited), (took, each.took)):
                bounds = [(f"{bound:g}", count) for bound, count in zip(BOUNDS_S, found.buckets, strict=True)]
                family.add_metric([each.pipeline, each.job], [*bounds, ("+Inf", found.count)], found.sum_s)
        yield waited
        yield took


class _Collector:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield GaugeMetricFamily("shiplap_queue_depth", "Runs that wait for a worker.", metrics.queue_depth)
        yield GaugeMetricFamily("shiplap_runs_running", "Runs that workers work on.", metrics.running)
        waiting = GaugeMetricFamily(
            "shiplap_jobs_waiting", "Jobs that wait for a worker, by the labels that it has to have.", labels=["labels"]
        )
        oldest = GaugeMetricFamily(
            "shiplap_jobs_waiting_seconds", "How long the first of these jobs has waited.", labels=["labels"]
        )
        for group in metrics.waiting:
            waiting.add_metric([group.labels], group.count)
            oldest.add_metric([group.labels], group.oldest_s)
        yield waiting
        yield oldest
        runs = GaugeMetricFamily("shiplap_runs", "Runs that are kept, by state.", labels=["state"])
        for state, count in sorted(metrics.runs_by_state.items()):
            runs.add_metric([state], count)
        yield runs
        ended = CounterMetricFamily("shiplap_runs_ended", "Runs that ended, by state.", labels=["state"])
        for state, count in metrics.ended_by_state.items():
            ended.add_metric([state], count)
        yield ended
        yield SummaryMetricFamily(
            "shiplap_run_wait_seconds", "From being queued to being taken by a worker.",
            count_value=metrics.wait_count, sum_value=metrics.wait_s,
        )  # fmt: skip
        yield SummaryMetricFamily(
            "shiplap_run_duration_seconds", "From start to end of runs.",
            count_value=metrics.run_count, sum_value=metrics.run_s,
        )  # fmt: skip
        steps = CounterMetricFamily("shiplap_steps", "Steps that ended, by cache.", labels=["cache"])
        steps.add_metric(["hit"], metrics.cache_hits)
        steps.add_metric(["miss"], metrics.cache_misses)
        yield steps
        cache = CounterMetricFamily(
            "shiplap_shared_cache", "What became of runs' parts of the shared cache.", labels=["outcome"]
        )
        for outcome, count in metrics.cache_written.items():
            cache.add_metric([outcome], count)
        yield cache
        workers = GaugeMetricFamily("shiplap_workers", "Workers, by state.", labels=["state"])
        for state in ("idle", "busy", "draining", "sick", "lost"):
            workers.add_metric([state], metrics.workers_by_state.get(state, 0))
        yield workers
