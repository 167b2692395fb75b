"""TLS to registries: whom to believe, and what to say when that fails. Loaded once a registry speaks TLS: ssl is slow.

Certificates are found as docker finds them: see ``core.certificates``.
"""

from __future__ import annotations

import ssl
import threading
from typing import Final

from core.certificates import Shown, load_certificates, shown_certificate, trust_hint
from core.connections import NOT_TLS, reason
from core.errors import HostNotFoundError, OutOfReachError, SettingsError
from registry.client.config import ClientConfig, is_loopback
from registry.errors import PlainHttpServerError, RegistryConfigError, RegistryError, TlsError, UnreachableError

_PROTOCOLS: Final = ["http/1.1"]


class Tls:
    """The TLS of one origin. Thread-safe.

    netloc: HOST[:PORT], as in its URL. host, port: the same, apart.
    is_near: the origin is reached by itself and not through a proxy, so it can be looked at.
    """

    def __init__(self, config: ClientConfig, netloc: str, host: str, port: int, *, is_near: bool) -> None:
        self._config = config
        self._netloc = netloc
        self._host = host
        self._port = port
        self._is_near = is_near
        self._lock = threading.Lock()
        self.context, self._lacks_system_cas = self._new_context()

    def may_try_again(self, error: Exception) -> bool:
        """Whether the certificate was not believed, and may be now: the system's CAs had not been loaded yet."""
        if not isinstance(error, ssl.SSLCertVerificationError):
            return False
        with self._lock:
            lacked, self._lacks_system_cas = self._lacks_system_cas, False
            if lacked:
                self.context.load_default_certs()
            return lacked

    def translated(self, error: Exception) -> RegistryError:
        """What is said when a handshake failed, or the connection broke."""
        if not isinstance(error, ssl.SSLError):
            return UnreachableError(f"the connection to {self._netloc} broke: {reason(error)}", connected=True)
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsError(f"{self._netloc}: x509: {error.verify_message}", hint=self._x509_hint(error))
        if isinstance(error, ssl.SSLEOFError):
            return UnreachableError(f"the TLS connection to {self._netloc} was cut off", connected=True)
        told = error.reason or str(error)
        if told in NOT_TLS:
            allowing = f"--insecure-registry {self._netloc}, or SHIPLAP_INSECURE_REGISTRIES={self._netloc}"
            return PlainHttpServerError(
                f"{self._netloc} does not speak TLS", hint=f"if it is meant to be plain HTTP: {allowing}"
            )
        if "ALERT" in told and "CERTIFICATE" in told:
            return TlsError(
                f"{self._netloc} wants a client certificate: {told}",
                hint=f"put it into {self._own_certificates}/ as client.cert and client.key",
            )
        return TlsError(f"{self._netloc}: TLS failed: {told}")

    @property
    def _own_certificates(self) -> str:
        """Where this user may put certificates for the origin."""
        return f"{self._config.docker_config}/certs.d/{self._netloc}"

    def _new_context(self) -> tuple[ssl.SSLContext, bool]:
        """The context, and whether the system's CAs are still to be loaded, should its own not be enough."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as docker: any certificate in *.crt is a root
        context.set_alpn_protocols(_PROTOCOLS)
        lacks = False
        if self._config.is_insecure(self._netloc):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif is_loopback(self._netloc):
            lacks = True  # it most likely has a certificate of its own: 20 ms are saved
        else:
            context.load_default_certs()
        for directory in self._config.certificates:
            try:
                load_certificates(context, directory / self._netloc)
            except SettingsError as error:
                raise RegistryConfigError(error.message, hint=error.hint) from error
        return context, lacks

    def _x509_hint(self, cause: ssl.SSLCertVerificationError) -> str | None:
        place = self._config.docker_config / "certs.d" / self._netloc
        hint = trust_hint(cause.verify_code, place, self._look())
        if hint is None or "ca.crt" not in hint:
            return hint
        return f"{hint} (or do without verification: --insecure-registry {self._netloc})"

    def _look(self) -> Shown | None:
        """Look at the certificate that the server shows; not through a proxy."""
        if not self._is_near:
            return None
        try:
            address = self._config.reach.pin(self._host, self._port)
        except (HostNotFoundError, OutOfReachError):  # it was another one a moment ago
            return None
        return shown_certificate(address or self._host, self._port, self._host)
