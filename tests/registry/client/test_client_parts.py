"""The client's parts that need no network: challenges, platforms, configuration, retries, redaction."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from core.digests import Digest
from core.events import Event, StepProgress
from core.platforms import Platform
from core.references import Reference
from core.settings import RegistrySettings
from images.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, OciPlatform
from images.platforms import choose, offered
from images.store import Store
from registry.client import ClientConfig, LayerProgress, RetryPolicy, StepTransferMonitor
from registry.client.challenges import Challenge, parse_challenges
from registry.client.failures import failure
from registry.client.http import redacted
from registry.client.monitor import LayerReporter
from registry.client.retrying import Tries
from registry.client.sources import remember_sources, sources_of
from registry.client.transport import _needs_no_proxy
from registry.errors import RegistryConfigError, ResponseError, TransferCancelledError, UnreachableError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://auth/token",service="reg",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer", {"realm": "https://auth/token", "service": "reg", "scope": "repository:a/b:pull,push"}
                )
            ],
        ),
        ('BEARER Realm = "x" , error=invalid_token', [Challenge("bearer", {"realm": "x", "error": "invalid_token"})]),
        (
            'Basic realm="one", Bearer realm="two"',
            [Challenge("basic", {"realm": "one"}), Challenge("bearer", {"realm": "two"})],
        ),
        (r'Basic realm="a \"quoted\" word"', [Challenge("basic", {"realm": 'a "quoted" word'})]),
        ("Negotiate", [Challenge("negotiate")]),
        ('Negotiate YWJj==, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        ('Basic realm="unterminated', [Challenge("basic")]),
        (',,, "nonsense" ===', []),
    ],
)
def test_challenges(text: str, expected: list[Challenge]) -> None:
    assert parse_challenges(text) == expected


def entry(number: int, os: str = "", architecture: str = "", variant: str = "", **more: Any) -> Descriptor:
    platform = OciPlatform(os=os, architecture=architecture, variant=variant) if os else None
    digest = Digest("sha256:" + str(number) * 64)
    return Descriptor(**{"media_type": OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform, **more})


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("linux/amd64", 1),
        ("linux/amd64/v3", 2),
        ("linux/amd64/v2", 1),
        ("linux/arm64", 3),
        ("linux/arm/v7", 4),
        ("linux/arm/v6", 5),
        ("linux/riscv64", None),
        ("windows/amd64", 6),
    ],
)
def test_platform_that_fits_best_is_chosen(wanted: str, chosen: int | None) -> None:
    entries = [
        entry(8, "unknown", "unknown"),
        entry(7, "linux", "amd64", artifact_type="application/spdx"),
        entry(2, "linux", "amd64", "v3"),
        entry(1, "linux", "amd64"),
        entry(5, "linux", "arm", "v6"),
        entry(4, "linux", "arm", "v7"),
        entry(3, "linux", "arm64", "v8"),
        entry(6, "windows", "amd64"),
    ]
    found = choose(entries, Platform.parse(wanted))
    assert (None if found is None else int(found.digest.hex[0])) == chosen
    assert "unknown/unknown" not in offered(entries)


def test_older_relatives_run_where_nothing_fits_better() -> None:
    assert choose([entry(1, "linux", "386")], Platform.parse("linux/amd64")) is not None
    assert choose([entry(1, "linux", "arm", "v7")], Platform.parse("linux/arm64")) is not None
    assert choose([entry(1, "linux", "arm64")], Platform.parse("linux/arm/v7")) is None
    assert choose([entry(1)], Platform.parse("linux/arm/v7")) is not None
    assert choose([entry(1, media_type=OCI_INDEX)], Platform.parse("linux/arm/v7")) is not None
    assert choose([entry(1, media_type="text/html")], Platform.parse("linux/arm/v7")) is None


def load(tmp_path: Path, document: object, **environ: str) -> ClientConfig:
    (tmp_path / "registries.json").write_text(json.dumps(document))
    return ClientConfig.load(RegistrySettings.from_environ(environ), tmp_path, insecure=("option:1",))


def test_configuration_is_put_together(tmp_path: Path) -> None:
    document = {
        "insecure-registries": ["file:1", "10.0.0.0/8"],
        "registry-mirrors": ["https://mirror.example/"],
        "mirrors": {"quay.example": ["http://127.0.0.1:5000/quay"]},
    }
    config = load(tmp_path, document, SHIPLAP_INSECURE_REGISTRIES="environ:1, just-host", DOCKER_CONFIG="/docker")
    for host in ("file:1", "environ:1", "option:1", "10.1.2.3:5000", "just-host:77"):
        assert config.is_insecure(host), host
    for host in ("file:2", "file", "11.1.2.3:5000", "localhost:5000"):
        assert not config.is_insecure(host), host
    assert config.certificates == (
        Path("/etc/docker/certs.d"),
        Path("/docker/certs.d"),
        tmp_path / "certs.d",
    )
    hub = config.endpoints("docker.io", mirrors=True)
    assert [(e.host, e.prefix, e.schemes, e.credentials_for) for e in hub] == [
        ("mirror.example", "", ("https",), "mirror.example"),
        ("registry-1.docker.io", "", ("https",), "docker.io"),
    ]
    assert [(e.host, e.prefix, e.schemes) for e in config.endpoints("quay.example", mirrors=True)] == [
        ("127.0.0.1:5000", "/quay", ("http",)),
        ("quay.example", "", ("https",)),
    ]
    assert len(config.endpoints("quay.example", mirrors=False)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "127.9.9.9", "localhost", "localhost:5000", "[::1]:5000"])
def test_loopback_may_be_plain(host: str, tmp_path: Path) -> None:
    assert ClientConfig(tmp_path).endpoints(host, mirrors=True)[0].schemes == ("https", "http")


@pytest.mark.parametrize("host", ["ci:5000", "localhost.example", "127.0.0.1.example", "128.0.0.1"])
def test_others_may_not_be_plain(host: str, tmp_path: Path) -> None:
    assert ClientConfig(tmp_path).endpoints(host, mirrors=True)[0].schemes == ("https",)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"insecure-registries": "ci"},
        {"mirrors": []},
        {"mirrors": {"x": "https://y"}},
        {"mirrors": {"https://x": ["https://y"]}},
        {"registry-mirrors": ["mirror.example"]},
        {"registry-mirrors": ["https://user:secret@mirror.example"]},
        {"registry-mirrors": ["https://"]},
        {"registry-mirrors": ["ftp://mirror.example"]},
        {"registry-mirrors": ["https://mirror.example?a=b"]},
        {"registry-mirrors": [1]},
        {"insecure-registries": [1]},
    ],
)
def test_wrong_configuration_is_told(document: object, tmp_path: Path) -> None:
    with pytest.raises(RegistryConfigError, match=r"registries\.json"):
        load(tmp_path, document)


@pytest.mark.parametrize("entry", ["http://ci:5000", "https://ci:5000/", "CI:5000", "ci", " ci:5000 "])
def test_insecure_registry_is_known_however_it_was_written(entry: str, tmp_path: Path) -> None:
    config = load(tmp_path, {"insecure-registries": [entry]})
    assert config.is_insecure("ci:5000")
    assert config.is_insecure("CI:5000")


@pytest.mark.parametrize("entry", ["ci:5000/app", "10.0.0.0/99"])
def test_what_is_no_insecure_registry_is_told(entry: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryConfigError, match="neither a registry nor a range"):
        load(tmp_path, {}, SHIPLAP_INSECURE_REGISTRIES=entry)


@pytest.mark.parametrize(
    ("name", "no_proxy", "expected"),
    [
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("ci.example", "", False),
        ("ci.example", "ci.example", True),
        ("ci.example", "other, .example", True),
        ("ci.example", "*.example", True),
        ("notexample", "example", False),
        ("ci.example", "*", True),
    ],
)
def test_hosts_that_need_no_proxy(name: str, no_proxy: str, expected: bool) -> None:
    assert _needs_no_proxy(name, no_proxy) is expected


class _Waits(threading.Event):
    """Does not wait, and remembers for how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def refusal(status: int, retry_after_s: float | None = None) -> ResponseError:
    return ResponseError("no", method="GET", url="u", status=status, retry_after_s=retry_after_s)


def test_pauses_double_with_jitter_up_to_a_limit() -> None:
    waits = _Waits()
    tries = Tries(RetryPolicy(tries=6, base_s=1, cap_s=5, jitter=lambda: 1.0), waits)
    for _ in range(5):
        tries.after(refusal(503))
    assert waits.waits == [1, 2, 4, 5, 5]
    with pytest.raises(ResponseError):
        tries.after(refusal(503))
    low = Tries(RetryPolicy(base_s=1, jitter=lambda: 0.0), waits)
    low.after(refusal(503))
    assert waits.waits[-1] == 0.5


def test_retry_after_is_obeyed_within_bounds() -> None:
    waits = _Waits()
    tries = Tries(RetryPolicy(base_s=1, jitter=lambda: 0.5), waits)
    tries.after(refusal(429, 7))
    assert waits.waits == [7.5]
    with pytest.raises(ResponseError):
        tries.after(refusal(429, 61))


def test_progress_gives_new_tries() -> None:
    tries = Tries(RetryPolicy(tries=2), _Waits())
    for _ in range(10):
        tries.after(UnreachableError("broke", connected=True))
        tries.progress()


def test_cancelled_pause_raises() -> None:
    waits = _Waits()
    waits.set()
    with pytest.raises(TransferCancelledError):
        Tries(RetryPolicy(), waits).after(refusal(503))


def test_urls_in_messages_hold_no_secrets() -> None:
    url = "https://user:pw@host:1/v2/x/blobs/uploads/?digest=sha256:00&_state=SECRET&X-Amz-Signature=SECRET#f"
    assert redacted(url) == "https://host:1/v2/x/blobs/uploads/?digest=sha256:00&_state=…&X-Amz-Signature=…"


class _Refused:
    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        self._body = body

    def read(self, size: int, /) -> bytes:
        return self._body[:size]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("status", "body", "message", "hint"),
    [
        (401, b"", "401 Unauthorized", "it may need credentials: shiplap login ci"),
        (403, b'{"errors":[{"code":"DENIED","message":"no"}]}', "403 Forbidden: DENIED: no", "shiplap login ci"),
        (404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', "404 Not Found: NAME_UNKNOWN", "spelt right"),
        (429, b"<html>", "429 Too Many Requests", "wait a while"),
        (413, b"", "413", "proxy"),
        (500, b'{"errors":"?"}', "500 Internal Server Error", "its log"),
        (599, b"", "599 (unknown status)", "its log"),
    ],
)
def test_refusals_tell_what_to_do(status: int, body: bytes, message: str, hint: str) -> None:
    error = failure(_Refused(status, body), "GET", "https://ci/v2/x?token=a", "ci", user=None, now=0)
    assert error.message.startswith(f"GET https://ci/v2/x?token=…: {message}")
    assert error.hint
    assert hint in error.hint


@pytest.mark.parametrize(
    ("user", "body", "told"),
    [
        ("robot", b"", "401 Unauthorized: the log-in as robot is not accepted"),
        ("robot", b'{"errors":[{"code":"UNAUTHORIZED"}]}', "UNAUTHORIZED; the log-in as robot is not accepted"),
        ("", b"", "401 Unauthorized: the log-in is not accepted"),
        (None, b"", "401 Unauthorized"),
    ],
)
def test_a_refused_log_in_is_named(user: str | None, body: bytes, told: str) -> None:
    error = failure(_Refused(401, body), "HEAD", "https://ci/v2/x", "ci", user=user, now=0, login="shiplap grant login")
    assert error.message.endswith(told)
    assert error.hint is not None
    assert error.hint.endswith("shiplap grant login ci")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_in_both_forms(header: str, seconds: float | None) -> None:
    error = failure(_Refused(503, b"", {"Retry-After": header}), "GET", "https://ci/", "ci", user="robot", now=10)
    assert error.retry_after_s == seconds


def test_sources_are_remembered_the_latest_first(tmp_path: Path) -> None:
    digest = Digest.of(b"x")
    with Store.open(tmp_path) as store:
        for path in ("a", "b", "c", "d", "b"):
            remember_sources(store, Reference.parse(f"ci:1/{path}"), [digest])
        assert sources_of(store, Reference.parse("ci:1/new"), digest) == ["b", "d", "c"]
        assert sources_of(store, Reference.parse("ci:1/b"), digest) == ["d", "c"]
        assert sources_of(store, Reference.parse("other:1/x"), digest) == []


def test_moving_bytes_are_reported_ten_times_a_second(recorder: Any) -> None:
    now = [0.0]
    reporter = LayerReporter(recorder, "layer", 100, clock=lambda: now[0])
    for sent in range(0, 101, 10):
        reporter.moved("Pushing", sent)
        now[0] += 0.06
    assert [progress.current_bytes for progress in recorder.layers] == [0, 20, 40, 60, 80, 100]


def test_transfers_are_progress_of_a_build_step() -> None:
    events: list[StepProgress] = []

    class Monitor:
        def emit(self, event: Event) -> None:
            assert isinstance(event, StepProgress)
            events.append(event)

    monitor = StepTransferMonitor(Monitor(), 3)
    monitor.layer(LayerProgress("abc", "Waiting", 0, 10))
    monitor.layer(LayerProgress("abc", "Downloading", 5, 10))
    monitor.layer(LayerProgress("abc", "Pull complete", 10, 10))
    monitor.message("ignored")
    assert [(event.id, event.what, event.current_bytes, event.total_bytes) for event in events] == [
        (3, "layer abc", 5, 10),
        (3, "layer abc", 10, 10),
    ]
