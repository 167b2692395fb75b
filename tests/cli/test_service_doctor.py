"""``shiplap doctor --service``: each part broken in turn, servers that hang or never end, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from cli.examination import addresses
from cli.examination.addresses import look_at_oidc, look_at_public_url
from cli.examination.registries import look_at_registry
from cli.examination.report import report
from core.errors import ShiplapError
from core.settings import OidcSettings, ServiceSettings
from pipelines.database import migrate
from pipelines.examination import stores
from pipelines.examination.findings import Finding
from pipelines.examination.host import look_at_disk, look_at_git
from pipelines.examination.stores import clock, look_at_database, look_at_key
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.certificates import certificate, serving
from tests.toolkit.service import postgres_server, redis_server
from tests.toolkit.shiplap import Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]
_ORDER = ("OK", "WARN", "FAILED")


def _examined(shiplap: Shiplap, code: int, **environment: str) -> dict[str, tuple[str, str]]:
    """State and detail by name; of two findings with one name, the worse."""
    result = shiplap("doctor", "--service", "--json", check=False, env=environment)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    found: dict[str, tuple[str, str]] = {}
    for document in json.loads(result.stdout):
        assert document["state"] == "OK" or document["remedy"], document
        before = found.get(document["name"], ("OK", ""))
        if _ORDER.index(document["state"]) >= _ORDER.index(before[0]):
            found[document["name"]] = (document["state"], document["detail"])
    return found


def test_service_that_works_is_said_to_and_nothing_stays(privileged: None, short_path: Path) -> None:
    shiplap = Shiplap(short_path / "root")
    process = shiplap.start("serve", "--listen", "127.0.0.1:0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url_file = shiplap.root / "serve" / "url"
        with contextlib.closing(redis.Redis(unix_socket_path=str(shiplap.root / "serve/redis/redis.sock"))) as client:
            eventually(url_file.exists, why="the service listens")
            before = set(os.listdir("/tmp"))
            found = _examined(shiplap, 0, SHIPLAP_PUBLIC_URL=url_file.read_text().strip())
            assert client.keys("shiplap:doctor:*") == []
        assert found["registry"][1].endswith("the administrator's token; an image was pushed and deleted")
        assert found["database"][1].startswith("SQLite")
        assert {name for name, (state, _) in found.items() if state != "OK"} == {"public URL, from a step"}
        assert "Connection refused" in found["public URL, from a step"][1]  # at a step's own loopback
        assert {"clock of Redis", "clock of the registry", "key of secrets", "git's tools", "disk"} <= set(found)
        assert "shiplap-doctor" not in shiplap("registry", "ls").stdout
        left = {*os.listdir(shiplap.root), *(set(os.listdir("/tmp")) - before)}
        assert not [name for name in left if "shiplap-doctor-" in name]
    finally:
        process.terminate()
        process.wait(stretched(60))


def test_wrong_passwords_are_said_and_not_shown(privileged: None, short_path: Path, tmp_path: Path) -> None:
    shiplap = Shiplap(tmp_path / "root")
    with postgres_server(short_path / "pg") as server, redis_server(short_path / "redis") as queue:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE shiplap LOGIN PASSWORD 'the-right-one'")
            connection.execute("CREATE DATABASE shiplap OWNER shiplap ENCODING 'UTF8' TEMPLATE template0")
        rules = server.directory / "data" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all shiplap scram-sha-256\n")
        server.control("reload")
        with contextlib.closing(redis.Redis.from_url(queue.url)) as client:
            client.config_set("requirepass", "the-queue's-own")

        def settings(password: str, of_queue: str) -> dict[str, str]:
            return {
                "SHIPLAP_DATABASE_URL": f"postgresql://shiplap:{password}@/shiplap?host={server.directory}",
                "SHIPLAP_REDIS_URL": f"unix://:{of_queue}@{queue.directory}/redis.sock",
            }

        right = settings("the-right-one", "the-queue%27s-own")
        shiplap("migrate", env=right)
        found = _examined(shiplap, 0, **right)
        assert re.match(r"PostgreSQL \d+.*, schema \d{4}; opened, read and written in \d+ ms", found["database"][1])
        assert found["key of secrets"][0] == found["Redis"][0] == found["clock of the database"][0] == "OK"
        wrong = settings("mistyped-word", "another-word")
        result = shiplap("doctor", "--service", check=False, env=wrong)
        assert result.returncode == 1
        assert "password authentication failed" in result.stdout
        assert "Redis: the password is part of SHIPLAP_REDIS_URL" in result.stdout
        assert "2 of " in result.stdout
        for secret in ("mistyped-word", "another-word"):
            assert secret not in result.stdout + result.stderr


_LOOKS = """
import json, os, sys, time
from pipelines.examination.findings import Finding, Look
from cli.examination.running import examine

def good():
    yield Finding("good", "OK", "one")
    yield Finding("good", "WARN", "two", "do it")
def hangs():
    yield Finding("hangs", "OK", "at first")
    os.system("sleep 600")
def dies():
    yield from ()
    os._exit(7)
def floods():
    while True:
        yield Finding("floods", "OK", "x" * 1000)
def lacks():
    yield from ()
    raise FileNotFoundError(2, "No such file", "/x")
looks = [Look(work.__name__, work, float(sys.argv[1]), "see there") for work in (hangs, good, dies, floods, lacks)]
print(json.dumps(examine(looks)))
"""


def test_look_that_hangs_or_dies_keeps_no_other_from_telling() -> None:
    bound_s = stretched(2)
    done = subprocess.run(
        [sys.executable, "-c", _LOOKS, str(bound_s)],
        cwd=_CHECKOUT, stdout=subprocess.PIPE, check=True, timeout=bound_s + stretched(60),
    )  # fmt: skip
    found = [Finding(*entry) for entry in json.loads(done.stdout)]
    assert [(one.name, one.state, one.detail) for one in found if one.name != "floods"] == [
        ("hangs", "OK", "at first"),
        ("hangs", "FAILED", f"no answer within {bound_s:g} seconds"),
        ("good", "OK", "one"),
        ("good", "WARN", "two"),
        ("dies", "FAILED", "its process ended with 7"),
        ("lacks", "FAILED", "[Errno 2] No such file: '/x'"),
    ]
    assert found[-1].remedy == "see there"
    assert len([one for one in found if one.name == "floods"]) < 1000


def _nothing(request: BaseHTTPRequestHandler) -> None:
    request.send_error(404)


class _Site:
    """A web server of this test's: what each path is answered with."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    site.answers.get(self.path, _nothing)(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"

    def say(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)

        self.answers[path] = answer


@pytest.fixture
def site() -> Iterator[_Site]:
    made = _Site()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def _endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b" " * 65536)


_DISCOVERY = "/.well-known/openid-configuration"


def _provider(site: _Site, **changed: object) -> OidcSettings:
    about = {
        "issuer": site.url,
        "authorization_endpoint": f"{site.url}/a",
        "token_endpoint": f"{site.url}/t",
        "jwks_uri": f"{site.url}/keys",
    }
    site.say(_DISCOVERY, json.dumps({**about, **changed}).encode())
    site.say("/keys", b'{"keys": [{"kty": "RSA"}, {"kty": "oct"}]}')
    return OidcSettings(issuer=site.url, client_id="x", roles=(("*", "viewer"),))


def test_provider_is_asked_for_its_document_and_its_keys(site: _Site) -> None:
    settings = _provider(site)
    assert list(look_at_oidc(settings)) == [Finding("OpenID Connect", "OK", f"{site.host} answers, with 1 keys")]
    assert [one.state for one in look_at_oidc(settings._replace(roles=()))] == ["WARN", "OK"]
    site.say("/keys", b'{"keys": [{"kty": "oct"}]}')
    assert "no key that a token could be signed with" in next(look_at_oidc(settings)).detail
    (other,) = look_at_oidc(_provider(site, issuer="https://other.example"))
    assert (other.state, other.detail) == ("FAILED", f"{site.host} says that it is 'https://other.example'")
    (lacking,) = look_at_oidc(_provider(site, token_endpoint=""))
    assert "has no token_endpoint" in lacking.detail


@pytest.mark.parametrize("body", [b"[" * 900_000, b"[]", b"\xff", b'"text"'], ids=["deep", "list", "bytes", "text"])
def test_provider_that_answers_nonsense_is_said(site: _Site, body: bytes) -> None:
    settings = _provider(site)
    site.say(_DISCOVERY, body)
    with pytest.raises(ShiplapError, match="answered what is no JSON object"):
        list(look_at_oidc(settings))


def test_body_without_end_is_left_after_a_megabyte(site: _Site) -> None:
    settings = _provider(site)
    site.answers[_DISCOVERY] = site.answers["/healthz"] = _endless
    with pytest.raises(ShiplapError, match="more than 1 MiB"):
        list(look_at_oidc(settings))
    with pytest.raises(ShiplapError, match="more than 1 MiB"):
        list(look_at_public_url(ServiceSettings(Path("/r"), "", "", public_url=site.url)))


def test_public_url_has_to_be_the_services(site: _Site) -> None:
    settings = ServiceSettings(Path("/r"), "", "", public_url=site.url)
    site.say("/healthz", b"ok\n")
    assert [one.state for one in look_at_public_url(settings)] == ["OK"]
    site.say("/healthz", b"<html>")
    (other,) = look_at_public_url(settings)
    assert (other.state, other.detail) == ("FAILED", f"{site.url}/healthz answers what is none of Shiplap's")
    site.say("/healthz", b"", 302, Location=f"{site.url}/healthz")
    assert "answers 302" in next(look_at_public_url(settings)).detail
    assert next(look_at_public_url(settings._replace(public_url=""))).state == "WARN"
    with pytest.raises(ShiplapError, match="is no address of the web"):
        list(look_at_public_url(settings._replace(public_url="file:///etc/passwd#")))


def test_registry_that_redirects_for_ever_is_left(site: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    site.say("/v2/", b"", 307, Location="/v2/")
    with pytest.raises(ShiplapError, match="redirected over and over"):
        list(look_at_registry(ServiceSettings(tmp_path, "", "", registry=site.host)))


def test_administrators_token_goes_to_no_other_registry(
    site: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "admin.token").write_text("shp_secret")
    heard: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        heard.append(request.headers.get("Authorization", ""))
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.answers["/v2/"] = answer
    found = list(look_at_registry(ServiceSettings(tmp_path, "", "", registry=site.host)))
    assert found[-1].state == "WARN"
    assert "no log-in here" in found[-1].detail
    assert heard
    assert set(heard) == {""}


@pytest.mark.parametrize("is_there", [True, False])
def test_workers_token_goes_where_its_contexts_come_from(
    site: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """SHIPLAP_PUBLIC_URL is set on a worker only where the registry has two names."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    heard: set[str] = set()

    def answer(request: BaseHTTPRequestHandler) -> None:
        heard.add(sent := request.headers.get("Authorization", ""))
        request.send_response(200 if sent else 401)
        request.send_header("WWW-Authenticate", "Basic")
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.answers["/v2/"] = answer
    web_url = site.url if is_there else "http://ci.example.org"
    settings = ServiceSettings(tmp_path, "", "", registry=site.host, web_url=web_url, web_token="shp_workers")
    with pytest.raises(ShiplapError):  # no log-in, or no place to push to
        list(look_at_registry(settings))
    assert heard == ({"", "Basic " + b64encode(b"doctor:shp_workers").decode()} if is_there else {""})


@pytest.mark.parametrize(
    ("apart_s", "state", "words"),
    [(0, "OK", "from this host's"), (30, "WARN", "ahead of"), (-30, "WARN", "behind"), (-3600, "FAILED", "behind")],
)
def test_clocks_may_be_seconds_apart_and_no_minutes(apart_s: float, state: str, words: str) -> None:
    found = clock("clock of x", time.time() + apart_s)
    assert found.state == state
    assert words in found.detail
    assert bool(found.remedy) == (state != "OK")


def test_key_is_compared_with_the_databases_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = ServiceSettings.from_environ({}, root=str(tmp_path / "root"))
    assert [one.state for one in look_at_key(settings)] == ["WARN"]  # there is no database
    assert next(look_at_database(settings)).detail == f"there is no {tmp_path}/root/serve/service.db yet"
    assert not settings.key_file.exists()
    migrate(settings)
    assert [one.state for one in look_at_key(settings)] == ["OK"]
    settings.key_file.chmod(0o644)
    assert [one.state for one in look_at_key(settings)] == ["WARN", "OK"]
    with monkeypatch.context() as patch:
        patch.setattr(stores, "_OF_CONTAINER", str(settings.key_file.parent))
        assert [one.state for one in look_at_key(settings)] == ["OK"]
    settings.key_file.write_bytes(os.urandom(32))
    with pytest.raises(ShiplapError, match="is another key"):
        list(look_at_key(settings))
    settings.key_file.unlink()
    with pytest.raises(ShiplapError, match="there is no"):
        list(look_at_key(settings))


def test_any_certificate_does_where_only_the_way_is_looked_at(tmp_path: Path) -> None:
    file, _ = certificate(tmp_path, "Acme Root", name="localhost", begins=-1, ends=9)
    with serving(file) as host:
        assert addresses._seen(f"https://{host}") == b"answers what is none of Shiplap's"  # and warns of nothing


def test_certificate_that_is_not_trusted_is_told_with_where_its_ca_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own clients look into certs.d; for the provider of identities there is the system's store alone."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    file, _ = certificate(tmp_path, "Acme Root", name="localhost", begins=-1, ends=9)
    with serving(file) as host:
        settings = ServiceSettings(tmp_path / "root", "", "", public_url=f"https://{host}")
        with pytest.raises(ShiplapError, match="certificate verify failed") as caught:
            list(look_at_public_url(settings))
        assert f"{tmp_path}/docker/certs.d/{host}/ca.crt" in (caught.value.hint or "")
        assert "Acme Root" in (caught.value.hint or "")
        with pytest.raises(ShiplapError) as other:
            list(look_at_oidc(OidcSettings(issuer=f"https://{host}", client_id="x")))
    assert f"/usr/local/share/ca-certificates/{host}/ca.crt" in (other.value.hint or "")
    assert (other.value.hint or "").endswith("; then run update-ca-certificates")
    late, issuer = certificate(tmp_path, "Acme Root", name="localhost", begins=-9, ends=-1)
    with serving(late) as host:
        believed = tmp_path / "docker" / "certs.d" / host
        believed.mkdir(parents=True)
        shutil.copy(issuer, believed / "ca.crt")
        with pytest.raises(ShiplapError) as old:
            list(look_at_public_url(settings._replace(public_url=f"https://{host}")))
    assert "the certificate has expired" in (old.value.hint or "")


def test_full_disk_is_said_with_its_kind(privileged: None, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=20", "tmpfs", place], check=True)
    try:
        settings = ServiceSettings(place / "root", "", "")
        found = list(look_at_disk(settings))
        assert [one.state for one in found] == ["FAILED", "WARN"]  # little room, few inodes
        assert f"{place}/root on tmpfs: 2 MiB of 2 MiB free" in found[0].detail
        with contextlib.suppress(OSError):
            (place / "fill").write_bytes(bytes(4 << 20))
        (full,) = look_at_disk(settings)
        assert full.state == "FAILED"
        assert full.detail.endswith("a file cannot be written: No space left on device")
        assert "shiplap image prune" in full.remedy
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_git_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings(tmp_path, "", "")
    assert [one.state for one in look_at_git(settings)] == ["OK"]
    (unread,) = look_at_git(settings._replace(git_ca_file=tmp_path / "none"))
    assert unread.state == "FAILED"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert next(look_at_git(settings)).detail.startswith("git is missing")


def test_report_has_the_next_steps_and_a_verdict() -> None:
    good, doubtful, bad = (
        Finding("a", "OK", "x"),
        Finding("b", "WARN", "y", "do b"),
        Finding("c", "FAILED", "z", "do c"),
    )
    assert report([good]).endswith("All that the service needs is there.")
    assert "see whether what is marked WARN is meant so" in report([good, doubtful])
    text = report([good, doubtful, bad])
    assert "What to do:\n  b: do b\n  c: do c\n\n1 of 3 checks failed." in text
