"""Under which terms one may connect over TCP."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from core.errors import ShiplapError

_NO_TERMS: Final = "over tcp, who connects is known by a certificate or by a token: neither is asked for"
_HOW: Final = (
    "--tlscert FILE --tlskey FILE --tlscacert FILE for certificates, --tokens URL --token-users FILE for tokens"
)

_FILES: Final = ("tlscert", "tlskey", "tlscacert", "token-users")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give a process the options that ``Terms.arguments`` makes."""
    for name in _FILES:
        parser.add_argument(f"--{name}", default="", metavar="FILE")
    parser.add_argument("--tokens", default="", metavar="URL")
    parser.add_argument("--insecure", action="store_true")


class TermsError(ShiplapError):
    """Under these terms the API is not served over TCP."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the API's process was told about TCP. Empty: not told.

    cert, key: the server's certificate and its key, PEM.
    ca: certificates that these CAs have signed name their owners.
    tokens: the URL of a Shiplap service, whose tokens name its users.
    users: a file that says which user of this host a user of the service is.
    insecure: no TLS; on this host's loopback alone.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    tokens: str = ""
    users: str = ""
    insecure: bool = False

    def arguments(self) -> list[str]:
        """For the gate's process; see ``add_to``."""
        texts = (*zip(_FILES, (self.cert, self.key, self.ca, self.users), strict=True), ("tokens", self.tokens))
        found = [f"--{name}={value}" for name, value in texts if value]
        return [*found, *(["--insecure"] if self.insecure else [])]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Of what was parsed; see ``add_to``."""
        told = options
        return cls(told.tlscert, told.tlskey, told.tlscacert, told.tokens, told.token_users, told.insecure)

    def check(self, hosts: Sequence[str]) -> None:
        """Raise TermsError unless strangers are kept out. hosts: the addresses to listen at."""
        if not self.ca and not self.tokens:
            raise TermsError(_NO_TERMS, hint=_HOW)
        scheme, host = _scheme_and_host(self.tokens)
        if self.tokens and scheme not in ("http", "https"):
            raise TermsError(f"--tokens {self.tokens!r} is no URL of a service", hint="write https://HOST[:PORT]")
        if scheme == "http" and not _is_loopback(host):
            raise TermsError(
                f"--tokens {self.tokens!r} is without TLS: whoever is on the way reads tokens, and says whose they are",
                hint="write https://; http:// is for a service on this host's loopback",
            )
        if bool(self.tokens) != bool(self.users):
            raise TermsError("--tokens and --token-users are said together", hint=_HOW)
        if self.users:
            users_of(self.users)
        if not self.insecure:
            if not self.cert or not self.key:
                raise TermsError(
                    "the API is not served over tcp without TLS: --tlscert or --tlskey is missing", hint=_HOW
                )
            self.context()
            return
        if self.cert or self.key or self.ca:
            raise TermsError("--insecure is without TLS: certificates have no meaning beside it")
        for host in hosts:
            if not _is_loopback(host):
                raise TermsError(
                    f"--insecure is for this host's loopback alone, and {host or 'every address'} is not that",
                    hint="whoever is on the way could read the tokens: use TLS",
                )

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when somebody replaces a file of certificates, or its key."""
        return tuple(map(_stamp, filter(None, (self.cert, self.key, self.ca))))

    def context(self) -> ssl.SSLContext:
        """For a server. Raises TermsError for files that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise TermsError(f"the certificate {self.cert} with the key {self.key} cannot be used: {error}") from error
        if self.ca:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as error:
                raise TermsError(f"the CA certificates {self.ca} cannot be used: {error}") from error
            context.verify_mode = ssl.CERT_OPTIONAL if self.tokens else ssl.CERT_REQUIRED
        return context


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def users_of(path: str) -> dict[str, str]:
    """Users of the service, each with the user of this host who that is. Raises TermsError.

    The file has a line for each: ``NAME USER``. What begins with ``#`` is no line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TermsError(f"the file {path} of --token-users cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] in found:
            raise TermsError(
                f"{path}:{number}: expected a user of the service, once, and a user of this host",
                hint="ana ana",
            )
        found[words[0]] = words[1]
    return found


def _scheme_and_host(url: str) -> tuple[str, str]:
    """Both are "" for what is no URL."""
    try:
        found = urlsplit(url)
        return found.scheme, found.hostname or ""
    except ValueError:
        return "", ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
