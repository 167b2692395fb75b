"""The report of ``shiplap build``: progress while it runs, then how it ended, in the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

from cli.errors import describe, is_users
from cli.progress.choose import Mode, open_display
from cli.progress.pump import Pump
from core.closing import Closing
from core.errors import ShiplapError
from core.events import BuildPlanned, Event, NullMonitor, StepFinished, StepInfo
from core.references import Reference

if TYPE_CHECKING:
    from builder.request.request import Output
    from cli.building.recording import Recorder
    from core.digests import Digest
    from images.oci import Descriptor

_TAIL_LINES = 50


class ReportedResult(Protocol):
    """The reported facts of a result, wherever it was built."""

    @property
    def config_digest(self) -> Digest: ...
    @property
    def manifest_digest(self) -> Digest: ...
    @property
    def executed(self) -> int: ...
    @property
    def cached(self) -> int: ...


class ResultFiles(NamedTuple):
    """The values of ``--iidfile`` and ``--metadata-file``."""

    iidfile: str | None
    metadata_file: str | None

    def remove_stale(self) -> None:
        """Remove the last build's files: after a failed build, nobody may take them for its result."""
        for path in self:
            if path and Path(path).is_file():
                Path(path).unlink()

    def write(self, result: ReportedResult, metadata: Callable[[], dict[str, Any]]) -> None:
        """Write the files that were asked for. metadata: makes the document."""
        if self.iidfile:
            Path(self.iidfile).write_text(result.config_digest)
        if self.metadata_file:
            import json

            Path(self.metadata_file).write_text(json.dumps(metadata(), indent=2) + "\n")


class BuildReport(Closing):
    """A core.events.Monitor, and a context manager: when it is left, progress has been shown to its end.

    sink: standard error, for everything that is not a result.
    explain: whether to tell at the end why steps ran.
    """

    def __init__(self, mode: Mode, sink: TextIO, *, explain: bool = False) -> None:
        self._mode = mode
        self._explain = explain
        self._sink = sink
        self._infos: dict[int, StepInfo] = {}
        self._ends: dict[int, StepFinished] = {}
        display = open_display(mode, sink)
        self._pump = Pump(display) if display else None
        self._next = self._pump or NullMonitor()
        self._recorder: Recorder | None = None
        self.error = ""
        """Why there is no image, as it was printed; "" as long as nothing was wrong."""

    def record(self, recorder: Recorder) -> None:
        """From now on, let it know what is told."""
        self._recorder = recorder

    def emit(self, event: Event) -> None:
        if self._recorder is not None:
            self._recorder.emit(event)
        if isinstance(event, StepFinished):
            self._ends[event.id] = event
        elif isinstance(event, BuildPlanned):
            self._infos.update({info.id: info for info in event.steps})
        self._next.emit(event)

    def close(self) -> None:
        """Show what is left of the progress. A second call does nothing."""
        if self._pump:
            self._pump.close()

    def steps(self) -> list[dict[str, Any]]:
        """The steps that ended, in Dockerfile order."""
        return [
            {
                "name": info.name,
                "outcome": self._ends[step_id].outcome,
                "duration_s": round(self._ends[step_id].duration_s, 6),
                "line": info.line,
            }
            for step_id, info in sorted(self._infos.items())
            if step_id in self._ends
        ]

    def succeeded(
        self,
        result: ReportedResult,
        outputs: Sequence[Output],
        duration_s: float,
        metadata: Callable[[], dict[str, Any]],
    ) -> None:
        """Print what was made, and how many steps had to run. metadata: makes the document, where it is shown."""
        if self._mode == "quiet":
            return
        if self._mode == "json":
            self._write_json({"event": "result", **metadata()})
            return
        lines = [*self._explained(), *self._gap()]
        for output in outputs:
            if output.type == "image":
                lines.append(f"image {result.config_digest}")
                lines += [f"naming to {name}" for name in output.names if output.store]
                lines += [f"pushed {name}" for name in output.names if output.push]
            else:
                lines.append(f"{output.type} written to {'standard output' if output.dest == '-' else output.dest}")
        count = result.executed + result.cached
        steps = "1 step" if count == 1 else f"{count} steps"
        lines.append(f"{steps}: {result.executed} executed, {result.cached} cached, {duration_s:.2f}s")
        self._say("\n".join(lines))

    def failed(self, error: Exception) -> None:
        """Print why there is no image, and the end of the failed step's output unless all of it was shown."""
        self.error = describe(error)
        if self._mode == "json":
            hint = getattr(error, "hint", None)
            self._write_json({"event": "error", "message": str(error), "hint": hint, "text": self.error})
            return
        text = self.error
        tail = getattr(error, "output_tail", b"")
        if tail and self._mode != "plain":
            text = _tail_text(tail, error) + text
        self._say("\n".join([*self._explained(), *self._gap(), text]))

    def ended_by(self, error: ShiplapError | OSError) -> int:
        """As ``failed``, after the progress. Returns the exit code. Raises an error that no user can cause."""
        if not is_users(error):
            raise error
        self.close()
        self.failed(error)
        return 1

    def _explained(self) -> list[str]:
        if not self._explain or self._mode == "quiet":
            return []
        from cli.building.explained import explained

        steps = sorted(self._infos.items())
        return explained((info, self._ends[step_id]) for step_id, info in steps if step_id in self._ends)

    def _gap(self) -> list[str]:
        """An empty line, if there was progress to separate."""
        return [""] if self._infos and self._pump else []

    def _write_json(self, members: dict[str, Any]) -> None:
        import json

        self._say(json.dumps(members, ensure_ascii=False, separators=(",", ":")))

    def _say(self, text: str) -> None:
        self._sink.write(text + "\n")
        self._sink.flush()


def metadata_document(
    result: ReportedResult,
    names: Sequence[Reference],
    steps: Sequence[dict[str, Any]],
    duration_s: float,
    *,
    root: Descriptor | None = None,
    is_index: bool = False,
    only_files: bool = False,
    ref: str = "",
) -> dict[str, Any]:
    """The content of --metadata-file: buildx's members, and ours in ``shiplap.build``.

    root: the manifest or index that went out, where known.
    is_index: an index went out, which has no config of its own.
    only_files: no image went out.
    ref: names the build.
    """
    document: dict[str, Any] = {"buildx.build.ref": ref} if ref else {}
    if not is_index:
        document["containerimage.config.digest"] = str(result.config_digest)
    if root is not None:
        from images.oci import to_builtins

        document["containerimage.descriptor"] = to_builtins(root)
    if not only_files:
        document["containerimage.digest"] = str(result.manifest_digest)
    if names:
        document["image.name"] = ",".join(map(str, names))
    document["shiplap.build"] = {
        "executed": result.executed,
        "cached": result.cached,
        "duration_s": round(duration_s, 6),
        "steps": list(steps),
    }
    return document


def _tail_text(tail: bytes, error: Exception) -> str:
    from cli.progress.text import LineSplitter, harmless, one_line

    lines = [harmless(line.text) for line in LineSplitter().feed(tail, final=True)]
    step = getattr(error, "step", None)
    title = [f" > {one_line(step.name)}:"] if step is not None else []
    cut = [" … (--progress=plain shows all of it)"] if len(lines) > _TAIL_LINES else []
    return "\n".join(["------", *title, *cut, *lines[-_TAIL_LINES:], "------", ""])
