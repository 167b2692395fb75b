"""A stand-in for an engine: a unix socket that answers as one does, with containers that nobody has to run.

For what pages make of an engine's answers. What an engine answers, and what becomes of containers, is for tests that
have a real one.
"""

from __future__ import annotations

import json
import socketserver
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

HOSTILE: Final = '<b onmouseover="x()">\u202eevil</b>'
RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"
_HEAD: Final = struct.Struct(">B3xI")


def identity(number: int) -> str:
    """The ID of a container."""
    return f"{number:x}".rjust(2, "0") * 32


def container(number: int, name: str, state: str, **more: Any) -> dict[str, Any]:
    """A container as a list has it."""
    return {
        "Id": identity(number), "Names": [f"/{name}"], "Image": "registry.test/harbour/web:main",
        "Created": 1_795_900_000,
        "Ports": [], "Labels": {}, "State": state, "Status": "Up 3 hours", "Mounts": [],
        "NetworkSettings": {"Networks": {"bridge": {}}}, **more,
    }  # fmt: skip


class Standin:
    """A context manager. containers: as a list has them. logs: by ID, pairs of a stream and what was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: list[dict[str, Any]] = []
        self.details: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[tuple[int, bytes]]] = {}
        self.began_ns = 1_795_900_000 * 10**9
        self.asked: list[str] = []
        self._cpu = 0
        self.closing = threading.Event()
        self._server = _Server(str(path), _Handler)
        self._server.engine = self

    def stock(self) -> None:
        """Some containers of a team: one that needs somebody, some that run, one that has ended, a hostile one."""
        shop = {"com.docker.compose.project": "shop"}
        port = {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8000, "Type": "tcp"}
        self.containers = [
            container(1, "shop-web-1", "running", Status="Up 3 hours (healthy)", Labels=shop, Ports=[port]),
            container(2, "shop-worker-1", "running", Status="Up 4 minutes (unhealthy)", Labels=shop),
            container(3, "shop-db-1", "running", Image="postgres:17", Labels=shop,
                      Mounts=[{"Type": "volume", "Name": "shop_data", "Destination": "/var/lib/postgresql"}]),
            container(4, "migrate", "exited", Status="Exited (0) 3 hours ago", Labels=shop),
            container(5, "evil", "running", Image=HOSTILE, Labels={"com.docker.compose.project": HOSTILE}),
        ]  # fmt: skip
        lines = [(1, b"10.0.0.%d GET /tides/%d 200\n" % (n % 200, n)) for n in range(1, 400)]
        lines[200] = (2, b"ERROR: no tide table for 1912\n")
        self.logs = {identity(1): lines, identity(5): [(1, b"\x1b]0;owned\x07<script>alert(1)</script>\n")]}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="stand-in engine", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def found(self, ref: str) -> dict[str, Any] | None:
        """The container of a name or the beginning of an ID."""
        fits = (each for each in self.containers if each["Id"].startswith(ref) or each["Names"][0] == f"/{ref}")
        return next(fits, None)

    def document(self, listed: dict[str, Any]) -> dict[str, Any]:
        """One container by itself."""
        status = listed["Status"]
        health = "unhealthy" if "unhealthy" in status else "healthy" if "healthy" in status else "none"
        checks = [{"End": "2026-11-29T01:00:00Z", "ExitCode": int(health == "unhealthy"), "Output": "curl: (7)\n"}]
        return {
            "Id": listed["Id"], "Name": listed["Names"][0], "Image": "sha256:" + "e" * 64, "Path": "/usr/bin/tide",
            "Args": ["--listen", ":80"], "RestartCount": 0, "Mounts": listed["Mounts"],
            "State": {
                "Status": listed["State"], "StartedAt": "2026-11-28T22:00:00Z", "ExitCode": 0, "Error": "",
                "FinishedAt": "2026-11-28T22:01:00Z" if listed["State"] == "exited" else "0001-01-01T00:00:00Z",
                "Health": {"Status": health, "Log": checks if health != "none" else []},
            },
            "Config": {
                "Image": listed["Image"], "Hostname": listed["Id"][:12], "Tty": False, "Labels": listed["Labels"],
                "Env": ["PASSWORD=of-the-database"],
            },
            "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}, "Ports": {}},
            **self.details.get(listed["Id"], {}),
        }  # fmt: skip

    def log(self, container: str, query: dict[str, str]) -> bytes:
        """What it wrote, as frames: one a millisecond."""
        entries = [
            (self.began_ns + at * 1_000_000, stream, data)
            for at, (stream, data) in enumerate(self.logs.get(container, []))
        ]
        seconds, _, fraction = query.get("since", "0").partition(".")
        since = int(seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))
        entries = [entry for entry in entries if entry[0] >= since]
        if query.get("tail", "all").isdigit():
            entries = entries[-int(query["tail"]) :]
        return b"".join(_framed(*entry) for entry in entries)

    def stats(self) -> dict[str, Any]:
        """Figures, as of now."""
        self._cpu += 40_000_000
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        return {
            "read": moment, "cpu_stats": {"cpu_usage": {"total_usage": self._cpu}},
            "memory_stats": {"usage": 83_000_000, "limit": 512_000_000}, "pids_stats": {"current": 4},
            "networks": {"eth0": {"rx_bytes": self._cpu // 1000, "tx_bytes": self._cpu // 2000}},
        }  # fmt: skip


def _framed(at_ns: int, stream: int, data: bytes) -> bytes:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ns // 10**9)) + f".{at_ns % 10**9:09d}Z "
    return _HEAD.pack(stream, len(moment) + len(data)) + moment.encode() + data


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    engine: Standin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "a client"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        engine = self.server.engine
        engine.asked.append(f"{self.command} {parts.path}")
        match parts.path.strip("/").split("/"):
            case ["info"]:
                self._json(200, {"Name": "cedar"})
            case ["containers", "json"]:
                self._json(200, engine.containers)
            case ["networks"]:
                subnets = {"Config": [{"Subnet": "172.17.0.0/16"}]}
                self._json(200, [{"Id": "f" * 64, "Name": "bridge", "Driver": "bridge", "IPAM": subnets}])
            case ["volumes"]:
                made = "2026-11-20T08:00:00Z"
                self._json(200, {"Volumes": [{"Name": "shop_data", "Driver": "local", "CreatedAt": made}]})
            case ["containers", ref, *rest]:
                found = engine.found(ref)
                if found is None:
                    self._json(404, {"message": f"No such container: {ref}"})
                else:
                    self._of(found, rest, query)
            case _:
                self._json(404, {"message": "page not found"})

    def _of(self, found: dict[str, Any], rest: list[str], query: dict[str, str]) -> None:
        engine = self.server.engine
        match self.command, rest:
            case "GET", ["json"]:
                self._json(200, engine.document(found))
            case "GET", ["logs"]:
                self._send_log(
                    engine.log(found["Id"], query), goes_on=query.get("follow") == "1" and found["State"] == "running"
                )
            case "GET", ["stats"]:
                self._json(200, engine.stats())
            case "GET", ["changes"]:
                self._json(200, [{"Path": "/etc", "Kind": 0}, {"Path": "/etc/made", "Kind": 1}])
            case "POST", ["stop"]:
                found.update(State="exited", Status="Exited (143) 1 second ago")
                self._send(204, "text/plain", b"")
            case _:
                self._json(404, {"message": "page not found"})

    def _send_log(self, data: bytes, *, goes_on: bool) -> None:
        """A log; goes_on: the container may write more, so there is no end yet."""
        if not goes_on:
            self._send(200, MULTIPLEXED, data)
            return
        self.send_response(200)
        self.send_header("Content-Type", MULTIPLEXED)
        self.end_headers()
        self.wfile.write(data)
        self.server.engine.closing.wait()
        self.close_connection = True

    def _json(self, status: int, document: Any) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
