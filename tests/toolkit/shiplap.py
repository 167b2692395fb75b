"""The ``shiplap`` command of this checkout, run as a user runs it: a subprocess with a root directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.toolkit.bounds import stretched

DEBIAN_NAME = "debian:trixie-slim"
BUSYBOX_NAME = "busybox"
_SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background may have it ignored
from cli.main import main
raise SystemExit(main())
"""
COMMAND = (sys.executable, "-P", "-c", _SCRIPT)
"""What starts ``shiplap``."""


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """What a build that succeeded says of itself. executed, cached: numbers of steps."""

    image_id: str
    executed: int
    cached: int
    log: str


@dataclass(frozen=True, slots=True)
class Shiplap:
    """Runs ``shiplap ARGS…`` with ``SHIPLAP_ROOT`` set to ``root``."""

    root: Path

    def __call__(
        self,
        *args: str | Path,
        prefix: Sequence[str] = (),
        check: bool = True,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and return exit code, output and errors as text (undecodable bytes survive as escapes).

        prefix: a command that starts the command, such as ``("setpriv", "--no-new-privs")``.
        check: fail the test, showing all output, when the exit code is not 0.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        result = subprocess.run(
            [*prefix, *COMMAND, *map(str, args)],
            input=b"" if data is None else data,
            capture_output=True,
            env=self.environment(env),
            cwd=cwd or self.root.parent,
            timeout=stretched(timeout_s),
        )
        out, err = (text.decode(errors="backslashreplace") for text in (result.stdout, result.stderr))
        if check and result.returncode != 0:
            words = " ".join(map(str, args))
            raise AssertionError(f"shiplap {words} exited {result.returncode}\n--- stdout\n{out}\n--- stderr\n{err}")
        return subprocess.CompletedProcess(result.args, result.returncode, out, err)

    def start(self, *args: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start and return at once; the caller waits or kills. env: more variables. options: as Popen's."""
        return subprocess.Popen([*COMMAND, *map(str, args)], env=self.environment(env), **options)

    def environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """The environment that commands get: this process's, this root, no colours."""
        checkout = str(Path(__file__).resolve().parents[2])
        inherited = dict(os.environ)
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # every command would compile Shiplap anew
        return {
            **inherited,
            "PYTHONPATH": checkout,
            "SHIPLAP_ROOT": str(self.root),
            "XDG_CONFIG_HOME": str(self.root.parent / "config"),  # whoever runs the tests may have chosen a server
            "TERM": "dumb",
            "NO_COLOR": "1",
            **(more or {}),
        }

    def build(self, context: Path, *args: str | Path, timeout_s: float = 240) -> BuildOutcome:
        """``shiplap build`` that has to succeed; counts come from its metadata file."""
        with tempfile.TemporaryDirectory() as directory:
            metadata_file = Path(directory, "metadata.json")
            result = self(
                "build", "--progress", "plain", "--metadata-file", metadata_file, *args, context, timeout_s=timeout_s
            )
            metadata = json.loads(metadata_file.read_text())
        return BuildOutcome(
            image_id=metadata["containerimage.config.digest"],
            executed=metadata["shiplap.build"]["executed"],
            cached=metadata["shiplap.build"]["cached"],
            log=result.stdout + result.stderr,
        )

    def json(self, *args: str | Path) -> Any:
        """Run and decode what is printed."""
        return json.loads(self(*args).stdout)


def start_service(shiplap: Shiplap, listen: str = "127.0.0.1:0") -> tuple[str, subprocess.Popen[str]]:
    """``shiplap serve``, once it says where it is: its URL, and the process to end. Its log is beside the root."""
    with (shiplap.root.parent / "serve.log").open("w") as log:
        process: subprocess.Popen[Any] = shiplap.start(
            "serve", "--listen", listen, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    url: str = json.loads(line)["url"]
    return url, process
