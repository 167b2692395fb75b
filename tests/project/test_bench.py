"""The bench runs from end to end at a small size, and sums up samples rightly. It judges no times here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import figures, floors, growth, pages, registry, report, runpage, workloads
from bench.figures import Figure
from bench.pipeline import times_of
from bench.rounds import PLAIN, Sample
from bench.scenarios import INSTALL, ROWS
from bench.workloads import SHORT, Sizes

_CHECKOUT = Path(__file__).resolve().parents[2]


def measured(module: str, directory: Path, *options: str) -> Any:
    """What a bench writes to its output, which it leaves in the directory with everything else."""
    output = directory / "result.json"
    command = [sys.executable, "-m", module, *options, "--output", str(output), "--directory", str(directory)]
    subprocess.run(command, cwd=_CHECKOUT, check=True)
    return json.loads(output.read_text())


def test_short_bench_measures_every_row(privileged: None, tmp_path: Path) -> None:
    result = measured("bench", tmp_path, "--short", "--peers", "none")
    assert [entry["row"] for entry in result["rows"]] == [row.key for row in ROWS]
    assert all(sample["seconds"] > 0 for sample in result["samples"])
    assert [sample["row"] for sample in result["samples"] if sample["tool"] == PLAIN] == [INSTALL.key]
    assert result["versions"]["shiplap"].startswith("shiplap ")


def test_short_registry_bench_measures_every_row(privileged: None, tmp_path: Path) -> None:
    result = measured("bench.registry", tmp_path, "--short", "--runs", "1", "--no-docker")
    assert [entry["row"] for entry in result["rows"]] == [row.key for row in registry.ROWS]


def test_short_service_bench_measures_every_figure(privileged: None) -> None:
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/tmp") as directory:  # short: sockets are below
        result = measured(
            "bench.service",
            Path(directory),
            "--runs",
            "1",
            "--many",
            "2",
            "--starts",
            "1",
            "--logs",
            "1",
            "--lines",
            "2000",
        )
    rows = {entry["key"]: entry["value"] for entry in result["rows"]}
    assert list(rows) == [
        "ready", "idle", "first-line", "local", "queued", "overhead", "per-minute", "log", "log-masked", "masking",
    ]  # fmt: skip
    assert all(rows[key] > 0 for key in ("ready", "idle", "first-line"))
    assert rows["per-minute"] > 0
    assert rows["masking"] == rows["log-masked"] / rows["log"]


def test_short_pipeline_bench_measures_every_figure(privileged: None) -> None:
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/tmp") as directory:  # short: sockets are below
        rows = {row["key"]: row for row in measured("bench.pipeline", Path(directory), "--short")["rows"]}
    assert list(rows) == [
        "lint", "lint-command", "plan", "first-line", "own", "jobs", "push-first-line", "first-line-large", "reused",
        "disk-jobs", "disk-pushes", "push-first-line-large", "source", "checkout", "source-ratio", "outputs", "tar",
        "outputs-ratio", "cache-run", "cache-disk",
    ]  # fmt: skip
    timed = ("lint", "first-line", "push-first-line", "push-first-line-large", "jobs", "checkout", "outputs", "tar")
    assert all(row["value"] > 0 for key, row in rows.items() if key in timed)


def test_short_bench_of_two_hosts_measures_every_figure(privileged: None) -> None:
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/tmp") as directory:  # short: sockets are below
        found = measured("bench.hosts", Path(directory), "--runs", "1", "--files", "200")
    rows = {row["key"]: row["value"] for row in found["rows"]}
    assert list(rows) == ["crossing", "tar-zstd", "crossing-ratio"]
    assert rows["crossing-ratio"] == rows["crossing"] / rows["tar-zstd"] > 0


def test_short_bench_of_a_changed_file_measures_every_figure(privileged: None) -> None:
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/tmp") as directory:  # short: sockets are below
        found = measured("bench.changed", Path(directory), "--runs", "1", "--files", "200")
    rows = {row["key"]: row["value"] for row in found["rows"]}
    assert rows["ratio"] == rows["service"] / rows["local"] > 0


def test_short_bench_of_floors_measures_every_one(tmp_path: Path) -> None:
    rows = {row["key"]: row["value"] for row in measured("bench.floors", tmp_path, "--short", "--runs", "1")["rows"]}
    assert list(rows) == [floor.key for floor in floors.FLOORS]
    assert all(value > 0 for value in rows.values())


def test_short_bench_of_a_runs_page_sees_frames_while_jobs_end(privileged: None) -> None:
    short = ("--jobs", "12", "--lasts", "0.3", "--times", "1", "--seconds", "1", "--long", "50", "--choices", "2")
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/tmp") as directory:  # short: sockets are below
        found = measured("bench.runpage", Path(directory), *short)
    rows = {row["key"]: row["value"] for row in found["rows"]}
    assert list(rows) == ["frames", "frame", "drawn", "busy", "ended", "choice"]
    assert all(rows[key] > 0 for key in ("frames", "frame", "drawn", "busy", "choice"))


def test_frames_of_a_trace_are_those_of_the_page_with_the_most() -> None:
    def event(name: str, ts: int, tree: int = 3, **more: object) -> dict[str, object]:
        return {"name": name, "pid": 1, "tid": tree, "ts": ts, "args": {"layerTreeId": tree}, **more}

    frames = [event("BeginMainThreadFrame", at * 20_000) for at in range(51)]
    drawn = [event("DrawFrame", at * 10_000) for at in range(101)]
    others = [event("BeginMainThreadFrame", 0, tree=4), event("DrawFrame", 9_000_000, tree=4)]
    tasks = [event("RunTask", 0, dur=9_000), event("RunTask", 50_000, dur=21_000), event("RunTask", 0, 4, dur=99_000)]
    beats = [event("WebFrameWidgetImpl::BeginMainFrame", 0, args={"frameTime": at}) for at in (16_000, 0, 48_000)]
    found = runpage.shown([*others, *frames, *drawn, *tasks, *beats])
    assert (found.frames_per_s, found.drawn_per_s, found.busy_ms) == (50.0, 100.0, 21.0)
    assert found.frames_ms == [16.0, 32.0]


def test_short_services_bench_measures_every_figure(privileged: None, tmp_path: Path) -> None:
    rows = {row["key"]: row["value"] for row in measured("bench.services", tmp_path, "--runs", "1")["rows"]}
    assert list(rows) == ["postgres", "beyond"]
    assert rows["postgres"] > 0


def test_times_of_lines_are_those_of_the_first_ones_that_fit_in_order() -> None:
    shown = [(1.0, "end | later"), (2.0, "one | => DONE 0.1s"), (3.0, "end | => later"), (4.0, "end | later")]
    assert times_of(shown, ["one | => DONE ", "| later"]) == [2.0, 4.0]
    assert times_of(shown, ["| later"]) == [1.0]
    assert times_of(shown, ["one | => DONE ", "two | "]) == [2.0]


def test_short_dependencies_bench_measures_every_way(privileged: None, tmp_path: Path) -> None:
    rows = {row["key"]: row["value"] for row in measured("bench.dependencies", tmp_path, "--short")["rows"]}
    assert list(rows) == [
        f"{way}-{what}" for way in ("each", "outputs", "image") for what in ("new", "source", "packages", "disk")
    ]
    assert all(value > 0 for key, value in rows.items() if not key.endswith("-disk"))


def test_short_pages_bench_measures_every_page(privileged: None, tmp_path: Path) -> None:
    short = ("--runs", "1", "--rows", "50", "--cases", "20", "--outputs", "20")
    found = measured("bench.pages", tmp_path, *short)["pages"]
    assert {"runs", "one run", "a layer's files", "disk"} < set(found)
    assert {f"tests of a project, {some}" for some in ("some fail", "all fail", "API, after a report, all fail")} < set(
        found
    )
    times = ("before", "with outputs", "half of them collected")
    assert {f"{what}, {when}" for what in ("the catalog", "images") for when in times} < set(found)
    assert all(len(samples) == 1 for samples in found.values())


def test_what_was_timed_before_is_compared_with_it() -> None:
    found = {
        "images, before": [0.010, 0.012, 0.030],
        "images, with outputs": [0.012],
        "images, half": [0.024],
        "x": [0.1],
    }
    assert [line.split("  ")[-1].strip() for line in pages.table(found).splitlines()[1:]] == [
        "met", "1.00 × before: met", "2.00 × before: MISSED", "MISSED",
    ]  # fmt: skip


def test_short_bench_of_the_log_measures_frames_and_the_wheel() -> None:
    command = [sys.executable, "-m", "bench.logview", "--lines", "600000", "--frames", "20"]
    found = json.loads(subprocess.run(command, cwd=_CHECKOUT, check=True, stdout=subprocess.PIPE).stdout)
    assert found["wheel_px"] == [100.0], "the scrollbar is scaled, and the wheel is not"
    assert 20 < found["rows"] < 100
    assert all(found[name]["median_ms"] > 0 for name in ("following", "jumping"))


def test_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    samples = [Sample("run", "shiplap", n, ours) for n, ours in enumerate([1.0, 2.0, 9.0])]
    samples += [Sample("run", "buildkit", n, theirs) for n, theirs in enumerate([10.0, 40.0, 10.0])]
    (entry,) = report.summarize(samples, ROWS, report.titles(SHORT))
    assert entry["ratio"] == {"buildkit": 0.1}
    assert entry["median_s"] == {"shiplap": 2.0, "buildkit": 10.0}
    assert entry["within_budget"] is True
    assert "0.10 × buildkit: met" in report.table([entry], ["shiplap", "buildkit"])


def test_what_no_tool_can_save_is_taken_off_by_its_median() -> None:
    times = {"shiplap": [3.5, 9.0, 3.25], "buildkit": [5.0, 4.0, 4.5], PLAIN: [3.0, 1.0, 8.0]}
    samples = [Sample("install", tool, n, took) for tool, row in times.items() for n, took in enumerate(row)]
    (entry,) = report.summarize(samples, ROWS, report.titles(SHORT))
    assert entry["plain_s"] == 3.0
    assert entry["median_s"] == {"shiplap": 0.5, "buildkit": 1.5}
    assert entry["min_s"] == {"shiplap": 0.25, "buildkit": 1.0}
    assert entry["ratio"] == {"buildkit": 0.5 / 1.5}
    assert "beyond the command's own time of 3.00 s" in report.table([entry], ["shiplap", "buildkit"])


def test_contexts_are_the_same_for_one_seed_and_share_no_file_between_seeds(tmp_path: Path) -> None:
    sizes = Sizes(files=150, total_bytes=100_000)
    trees = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        context = workloads.copy_then_run(tmp_path / name, sizes, seed)
        trees[name] = [file.read_bytes() for file in sorted(context.rglob("f*"))]
    assert trees["a"] == trees["b"]
    assert len(trees["a"]) == sizes.files
    assert not set(trees["a"]) & set(trees["c"])


def test_one_changed_file_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    context = workloads.copy_then_run(tmp_path / "context", Sizes(files=300, total_bytes=100_000), 0)
    before = {file: file.read_bytes() for file in context.rglob("f*")}
    workloads.change_one_file(context, "x")
    assert sum(file.read_bytes() != content for file, content in before.items()) == 1


def test_growth_is_the_slope_between_sizes() -> None:
    line = growth.Growth("work", {1_000: 0.5, 10_000: 0.5, 100_000: 5.0})
    assert round(line.exponent, 6) == 0.5
    assert round(line.last_exponent, 6) == 1.0
    assert growth.table([line]).splitlines()[2] == "| work | 0.500 s | 0.500 s | 5.000 s | 0.50 | 1.00 |"


def test_short_engine_bench_measures_every_figure(privileged: None) -> None:
    with tempfile.TemporaryDirectory(prefix="shl-", dir="/var/tmp") as directory:  # short: sockets are below
        rows = measured("bench.engine", Path(directory), "--short", "--peers", "none")["rows"]
        assert os.listdir(directory) == ["result.json"]
    values = {row["key"]: row["value"] for row in rows}
    assert list(values) == [
        "run-shiplap", "exec-shiplap", "run-rm-shiplap", "many-shiplap", "memory-shiplap", "memory-more-shiplap",
        "out-up-shiplap", "out-up-pasta", "out-down-shiplap", "out-down-pasta",
        "port-up-shiplap", "port-down-shiplap", "port-connects-shiplap", "port-udp-shiplap", "port-open-shiplap",
        "port-open-memory-shiplap", "log-shiplap", "log-beside-shiplap", "log-dns-shiplap", "log-connects-shiplap",
        "ps", "docker-run-api", "docker-exec-api", "docker-compose-api", "docker-ps", "followers-memory",
        "followers-answer", "followers-none", "context-api", "unchanged-api", "build-api", "compose-build-api",
        "bake-api",
    ]  # fmt: skip
    assert all(value > 0 for key, value in values.items() if "memory" not in key)
    assert values["port-open-shiplap"] == 20


def test_a_budget_is_kept_from_below_or_from_above() -> None:
    assert Figure("a", "a", 0.1, "s", [0.1], 0.2).is_met
    assert not Figure("a", "a", 0.3, "s", [0.3], 0.2).is_met
    assert Figure("a", "a", 3.0, "/s", [3.0], 2.0, at_least=True).is_met
    assert not Figure("a", "a", 1.0, "/s", [1.0], 2.0, at_least=True).is_met
    assert "at least 2.000: MISSED" in figures.table([Figure("a", "a", 1.0, "/s", [1.0], 2.0, at_least=True)])


def test_short_growth_measures_every_series(privileged: None, tmp_path: Path) -> None:
    lines = measured("bench.growth", tmp_path, "--sizes", "10", "20", "--times", "1")
    assert len(lines) == 21
    assert all(seconds > 0 for line in lines for seconds in line["seconds"].values())
