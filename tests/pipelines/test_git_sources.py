"""Git sources: what may be fetched from where, and that a fetch gives the one commit without anything running."""

from __future__ import annotations

import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.errors import InvalidRequestError, SourceError
from pipelines.model import GitSource
from pipelines.sources import Checkout, fetch_git, parse_url, pin_address


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x", "git://example.org/x", "file:///etc", "/etc", "ext::sh -c true", "--upload-pack=x",
        "https://user:pass@example.org/x", "https://token@example.org/x", "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y", "ssh://-l@example.org/x", "https://example.org", "https:///x",
        "https://example.org:port/x", "https://example.org/a b", "https://example.org/a\nb", "https://a/x?y#z",
    ],
)  # fmt: skip
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_url(url)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1", "fd00::1",
     "::ffff:127.0.0.1", "224.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_unless_allowed(address: str) -> None:
    remote = parse_url("https://git.example.org/x")
    with pytest.raises(SourceError, match="not a public one"):
        pin_address(remote, allowed_hosts=(), resolve=lambda host, port: ["8.8.8.8", address])
    pinned = pin_address(remote, allowed_hosts=("git.example.org",), resolve=lambda host, port: [address])
    assert ipaddress.ip_address(pinned) == ipaddress.ip_address(address)


def git(directory: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", "-C", directory, *words], env={**os.environ, **who}, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repositories" / "app"
    (made / "sub").mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "sub" / "Dockerfile").write_text("FROM base\n")
    (made / "up").symlink_to("..")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "one")
    git(made, "tag", "v1")
    return made


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """git over https on this host, as git's own CGI program serves it: its address, and the certificate to trust."""
    certificate = tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
         certificate.with_name("key.pem"), "-out", certificate, "-days", "1", "-subj", "/CN=git.test", "-addext",
         "subjectAltName=DNS:git.test"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    certificate.chmod(0o644)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path.startswith("/away"):
                self.send_response(302)
                self.send_header("Location", f"https://git.test:{port}/app{path[5:]}?{query}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            length = int(self.headers.get("Content-Length") or 0)
            variables = {
                "GIT_PROJECT_ROOT": str(repository.parent), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
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
                check=True,
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

        def log_message(self, *arguments: object) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = listener.server_address[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield f"https://git.test:{port}", certificate.read_text()
    listener.shutdown()
    thread.join()
    listener.server_close()


def fetched(
    server: tuple[str, str], directory: Path, path: str = "/app", ref: str = "", subdirectory: str = ""
) -> Checkout:
    ca_file = Path("/tmp") / f"shiplap-test-ca-{os.getpid()}.pem"  # where nobody may read it
    ca_file.write_text(server[1])
    try:
        return fetch_git(
            GitSource(server[0] + path, ref, subdirectory), directory, allowed_hosts=("git.test",),
            resolve=lambda host, port: ["127.0.0.1"], ca_file=str(ca_file),
        )  # fmt: skip
    finally:
        ca_file.unlink()


def test_fetch_gives_the_commit_of_branch_tag_or_head(
    privileged: None, server: tuple[str, str], repository: Path, tmp_path: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "later").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "two")
    second = git(repository, "rev-parse", "HEAD")
    found = [fetched(server, tmp_path / f"checkout-{ref or 'head'}", ref=ref) for ref in ("", "main", "v1", first)]
    assert [(one.commit, one.branch, one.tag) for one in found] == [
        (second, "main", ""), (second, "main", ""), (first, "", "v1"), (first, "", ""),
    ]  # fmt: skip
    inner = fetched(server, tmp_path / "inner", subdirectory="sub")
    assert (inner.context / "Dockerfile").read_text() == "FROM base\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ref": "nothing"}, "no branch, tag or commit"),
        ({"path": "/nowhere"}, "git ls-remote failed"),
        ({"path": "/away"}, "git ls-remote failed"),
        ({"subdirectory": "../.."}, "no directory"),
        ({"subdirectory": "up"}, "no directory"),
        ({"subdirectory": "sub/Dockerfile"}, "not a directory"),
    ],
)
def test_what_cannot_be_fetched_is_told(
    privileged: None, server: tuple[str, str], tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        fetched(server, tmp_path / "checkout", **options)
