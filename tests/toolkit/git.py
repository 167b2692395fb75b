"""Git repositories for tests, and a server of them over http and https: git's own CGI program."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(directory: Path, *words: str, **environment: str) -> str:
    """Run git in ``directory``; what it printed."""
    done = subprocess.run(
        ["git", "-C", directory, *words], env={**os.environ, **_WHO, **environment}, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def make_certificate(directory: Path, host: str) -> Path:
    """A self-signed certificate for ``host``, a name or an address; its key is beside it as ``key.pem``."""
    certificate = directory / "cert.pem"
    kind = "IP" if host.replace(".", "").isdigit() else "DNS"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
         certificate.with_name("key.pem"), "-out", certificate, "-days", "1", "-subj", f"/CN={host}", "-addext",
         f"subjectAltName={kind}:{host}"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    certificate.chmod(0o644)
    return certificate


class GitServer:
    """url: of the server, without TLS. requests: what was asked for, in order.

    authorization: the header that every request needs, empty for none.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[str] = []
        self.authorization = ""


@contextlib.contextmanager
def serving_git(repositories: Path, certificate: Path | None = None) -> Iterator[GitServer]:
    """Serve every repository below ``repositories`` on a port of 127.0.0.1; ``/away/…`` redirects to it.

    certificate: for https; its key is beside it.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            server.requests.append(f"{self.command} {self.path}")
            if server.authorization and self.headers.get("Authorization") != server.authorization:
                self._empty(401, "WWW-Authenticate", 'Basic realm="git"')
                return
            if path.startswith("/away"):
                self._empty(302, "Location", f"{path[5:]}?{query}")
                return
            length = int(self.headers.get("Content-Length", "0"))
            variables = {
                "GIT_PROJECT_ROOT": str(repositories), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(length),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "PATH": os.environ["PATH"],
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            }  # fmt: skip
            answer = subprocess.run(
                ["git", "http-backend"],
                env=variables,
                input=self.rfile.read(length),
                stdout=subprocess.PIPE,
                check=False,  # it fails for what a client may not have, and says so in the answer
            ).stdout
            head, _, body = answer.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def _empty(self, status: int, name: str, value: str) -> None:
            self.send_response(status)
            self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = GitServer(listener.server_address[1])
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
