"""A CA as ``openssl req -x509`` makes it, without keyUsage: all clients believe it, with Python 3.13 as with others."""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3.connection
from urllib3.util.ssl_ import create_urllib3_context

from builder.remotes.http import HttpAccess, HttpFiles
from cli.examination.addresses import look_at_public_url
from core.reach import ANYWHERE
from core.settings import OidcSettings, ServiceSettings
from pipelines.accounts.sign_ins import SignIn
from pipelines.bare import post_receive
from pipelines.errors import SignInError
from pipelines.forges.events import ApiCall
from pipelines.statuses.transport import HttpTransport
from tests.toolkit.bounds import stretched
from tests.toolkit.certificates import certificate, serving
from web.identities import Provider


def by_doctor(host: str, root: Path) -> str:
    (finding,) = look_at_public_url(ServiceSettings(root, "", "", public_url=f"https://{host}"))
    return finding.detail


def by_forge(host: str, root: Path) -> str:
    ca_file = root / "certs.d" / host / "ca.crt"
    HttpTransport(ANYWHERE, ca_file=str(ca_file)).send(f"https://{host}", ApiCall("POST", "/", {}, {}))
    return "sent"


def by_hook(host: str, root: Path) -> str:
    with post_receive.send(f"https://{host}", {}, "{}", stretched(5)) as answer:
        return bytes(answer.body.read()).decode()


def by_identities(host: str, root: Path) -> str:
    provider = Provider(OidcSettings(f"https://{host}", "shiplap", "secret"))
    with pytest.raises(SignInError) as caught:
        provider.address(SignIn("state", "nonce", "verifier", "/"), "http://here")
    return caught.value.message


def by_build(host: str, root: Path) -> str:
    sink = io.BytesIO()
    HttpFiles(HttpAccess(), lambda: False).fetch(f"https://{host}/file", sink)
    return sink.getvalue().decode()


@pytest.fixture
def python313(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes contexts by itself makes strict ones, as it does there."""

    def stricter(make: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
        def made(*args: Any, **options: Any) -> ssl.SSLContext:
            context = make(*args, **options)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            return context

        return made

    monkeypatch.setattr(ssl, "create_default_context", stricter(ssl.create_default_context))
    monkeypatch.setattr(urllib3.connection, "create_urllib3_context", stricter(create_urllib3_context))


@pytest.mark.usefixtures("python313")
@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (by_doctor, "answers what is none of Shiplap's"),
        (by_forge, "sent"),
        (by_hook, "[]"),
        (by_identities, "the provider"),
        (by_build, "[]"),
    ],
)
def test_ca_without_key_usage_is_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[str, Path], str], answer: str
) -> None:
    file, issuer = certificate(tmp_path, "Acme Root", name="localhost", begins=-1, ends=9)
    with serving(file) as host:
        place = tmp_path / "certs.d" / host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(issuer.read_bytes())
        if ask is not by_doctor:
            monkeypatch.setenv("SSL_CERT_FILE", str(issuer))  # the system's
        said = ask(host, tmp_path)
    assert answer in said
    assert "certificate" not in said
