"""Certificates of servers: where their CAs may be put, and a hint for one that is not trusted.

docker's layout holds for registries and for Shiplap's own service alike: in ``certs.d/HOST[:PORT]/`` every ``*.crt`` is
a CA, ``NAME.cert`` with ``NAME.key`` is the client's own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from core.errors import SettingsError
from core.fetchable import PORTS

if TYPE_CHECKING:  # each of them takes 10 ms, and most commands need no TLS
    import ssl

    from cryptography import x509

SYSTEM_CERTIFICATES: Final = Path("/etc/docker/certs.d")

_LOOK_S: Final = 5.0
_LONGEST: Final = 120
_MOST_NAMES: Final = 5
# Codes of OpenSSL's X509_verify_cert_error_string(3).
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED = 9, 10, 18
_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64
_UNKNOWN_ISSUER: Final = (2, 19, 20, 21, 27)


def certificate_places(docker_config: Path, root: Path) -> tuple[Path, ...]:
    """Directories like ``certs.d``: the host's, this user's, and those of a root directory."""
    return SYSTEM_CERTIFICATES, docker_config / "certs.d", root / "certs.d"


def load_certificates(context: ssl.SSLContext, directory: Path) -> None:
    """Believe what ``certs.d/HOST/`` has. Raises SettingsError for a file that cannot be used."""
    import ssl

    try:
        names = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in names:
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, path.with_suffix(".key"))
        except (ssl.SSLError, OSError) as error:
            hint = "*.crt are CA certificates in PEM form; a client certificate NAME.cert has its key in NAME.key"
            raise SettingsError(f"{path} cannot be used: {error}", hint=hint) from error


def any_host_context(ca_file: Path | str | None = None) -> ssl.SSLContext:
    """To speak to any host: the system's CAs, or those of ``ca_file`` instead. Raises OSError where it has none.

    Certificates are judged as git, curl and docker judge them. Contexts that Python 3.13 and urllib3 make by themselves
    have X509_STRICT, too, which refuses a CA without ``keyUsage``, as ``openssl req -x509`` makes it.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    return context


def client_context(host: str, places: Sequence[Path]) -> ssl.SSLContext:
    """To speak to HOST[:PORT]: the system's CAs, and those that ``places`` have for it. Raises SettingsError."""
    import ssl

    context = any_host_context()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as docker: any certificate in *.crt is a root
    for place in places:
        load_certificates(context, place / host)
    return context


class Shown(NamedTuple):
    """What a server's certificate says of itself; all of it is the server's word. Times: seconds since the epoch."""

    issuer: str
    names: tuple[str, ...]
    valid_from: float
    valid_until: float


def shown_certificate(address: str, port: int, name: str) -> Shown | None:
    """The certificate that a server shows; nothing is sent to the server. None: it shows none that can be read.

    name: the server's name, as the handshake gives it to the server.
    """
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, ValueError), socket.create_connection((address, port), _LOOK_S) as connection:
        with context.wrap_socket(connection, server_hostname=name) as secured:
            data = secured.getpeercert(binary_form=True)
        if data:
            from cryptography import x509

            return _shown(x509.load_der_x509_certificate(data))
    return None


def trust_hint(code: int, place: Path, shown: Shown | None, *, now: float | None = None) -> str | None:
    """What to do about a certificate that is not trusted.

    code: OpenSSL's, of the verification.
    place: where this user may put a CA.
    now: by the clock, unless given.
    """
    if code == _EXPIRED:
        when = f" (it ended on {_day(shown.valid_until)})" if shown else ""
        return f"the certificate has expired{when}: renew it, and look at this machine's clock ({_today(now)})"
    if code == _NOT_YET_VALID:
        when = f" (it begins on {_day(shown.valid_from)})" if shown else ""
        return f"the certificate is not yet valid{when}: look at this machine's clock ({_today(now)})"
    if code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        made = f": {', '.join(shown.names[:_MOST_NAMES])}" if shown and shown.names else ""
        return f"use a name that the certificate was made for{made}"
    if code == _SELF_SIGNED:
        by = f" ({shown.issuer})" if shown else ""
        return f"the certificate is signed by itself{by}; if it is the right one, put it into {place}/ca.crt"
    if code in _UNKNOWN_ISSUER:
        by = f", {shown.issuer}," if shown else ""
        return (
            f"its issuer{by} is not known here: put that CA's certificate into {place}/ca.crt; "
            "of a CA that everybody knows, the server fails to send the certificates in between"
        )
    return None


def trust_hint_for(
    cause: ssl.SSLCertVerificationError, url: str, place: Path, *, now: float | None = None
) -> str | None:
    """``trust_hint``, after a look at the certificate of the server at ``url``. place: as ``certs.d``."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = shown_certificate(host, parts.port or PORTS["https"], host)
    return trust_hint(cause.verify_code, place / parts.netloc, shown, now=now)


def tls_cause(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS that led to ``error``, if one did: urllib3 wraps it, once or twice."""
    import ssl

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        wrapped = (getattr(seen, "reason", None), *seen.args)
        inner = next((part for part in wrapped if isinstance(part, BaseException)), None)
        seen = inner or seen.__cause__ or seen.__context__
    return seen


def _shown(certificate: x509.Certificate) -> Shown:
    from cryptography import x509

    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return Shown(
        _printable(certificate.issuer.rfc4514_string()),
        tuple(map(_printable, names)),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _printable(text: str) -> str:
    """A stranger's words: short, and nothing that a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:_LONGEST])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _today(now: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
