"""``python -m dockerapi.tcp --socket PATH --fd N… TERMS…``: the gate's process, as the API's worker starts it.

It ends when its standard input does, whose other end the worker has. A signal at the parent's death would not do: the
kernel forgets it when the process takes a user's rights (prctl(2)).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys

from core.errors import ShiplapError
from dockerapi.tcp.gate import Gate
from dockerapi.tcp.terms import Terms, add_to
from dockerapi.terminal import log_to_terminal


def main() -> int:
    """Serve until the API's worker ends."""
    parser = argparse.ArgumentParser(prog="python -m dockerapi.tcp")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--fd", type=int, action="append", default=[])
    add_to(parser)
    options = parser.parse_args()
    log_to_terminal()
    try:
        gate = Gate(Terms.of(options), options.socket)
    except ShiplapError as error:
        sys.stderr.write(f"shiplap engine: {error.message}\n")
        return 1
    listeners = [socket.socket(fileno=os.dup(fd)) for fd in options.fd]
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_alone(gate, listeners))
    return 0


async def _until_alone(gate: Gate, listeners: list[socket.socket]) -> None:
    serving = asyncio.ensure_future(gate.serve(listeners))
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), serving.cancel)
    await serving


if __name__ == "__main__":
    sys.exit(main())
