"""Errors for responses that refuse: each says what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from core.references import DEFAULT_DOMAIN
from registry.client.http import Response, error_body, redacted
from registry.errors import (
    DeniedError,
    ErrorCode,
    NotFoundError,
    RateLimitedError,
    ReportedError,
    ResponseError,
    UnauthorizedError,
)

_KINDS: Final = {401: UnauthorizedError, 403: DeniedError, 404: NotFoundError, 429: RateLimitedError}
_MESSAGE_LENGTH: Final = 300
_TOO_LARGE: Final = 413
LOGIN: Final = "shiplap login"


def failure(
    response: Response,
    method: str,
    url: str,
    domain: str,
    *,
    user: str | None,
    now: float,
    login: str = LOGIN,
    doubtful: bool = False,
) -> ResponseError:
    """The error for ``response``, whose body is read here.

    user: who asked; empty for a token without a name, None for nobody in particular.
    now: seconds since the epoch, for Retry-After dates.
    login: the command that stores a log-in.
    doubtful: whether this may be no registry at all.
    """
    status = response.status
    retry_after_s = _retry_after(response.headers.get("Retry-After"), now)
    reported = _reported(error_body(response))
    kind = _KINDS.get(status, ResponseError)
    if kind is NotFoundError or kind is ResponseError:  # what is said counts, some choose odd statuses for it
        codes = {entry.code for entry in reported}
        if ErrorCode.TOOMANYREQUESTS in codes:
            kind = RateLimitedError
        elif ErrorCode.DENIED in codes:
            kind = DeniedError
    what = f"{method} {redacted(url)}: {status} {_phrase(status)}"
    parts = [f"{entry.code}: {entry.message}" if entry.message else entry.code for entry in reported]
    if kind is UnauthorizedError and user is not None:
        parts.append(f"the log-in{f' as {user}' if user else ''} is not accepted")
    said = "; ".join(parts)
    return kind(
        f"{what}: {said}" if said else what,
        method=method,
        url=redacted(url),
        status=status,
        reported=reported,
        retry_after_s=retry_after_s,
        hint=_no_registry(url)
        if doubtful and not reported
        else _hint(kind, status, _command(login, domain), reported, retry_after_s, logged_in=user is not None),
    )


def _no_registry(url: str) -> str:
    return f"{urlsplit(url).netloc} does not answer as registries do: are its name and port right?"


def _phrase(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"


def _reported(body: bytes) -> list[ReportedError]:
    try:
        entries = json.loads(body)["errors"]
        return [_entry(entry) for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        return []


def _entry(entry: dict[str, object]) -> ReportedError:
    message = " ".join(str(entry.get("message") or "").split())
    detail = entry.get("detail")
    if isinstance(detail, str) and detail and detail not in message:
        message = f"{message} ({' '.join(detail.split())})" if message else detail
    return ReportedError(str(entry.get("code") or "UNKNOWN")[:60], message[:_MESSAGE_LENGTH])


def _retry_after(text: str | None, now: float) -> float | None:
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime  # 15 ms, with all of email

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def _command(login: str, domain: str) -> str:
    return login if domain == DEFAULT_DOMAIN and login == LOGIN else f"{login} {domain}"


def _hint(
    kind: type[ResponseError],
    status: int,
    login: str,
    reported: Sequence[ReportedError],
    retry_after_s: float | None,
    *,
    logged_in: bool,
) -> str | None:
    codes = {entry.code for entry in reported}
    if kind is UnauthorizedError:
        return f"the stored credentials do not suffice: {login}" if logged_in else f"it may need credentials: {login}"
    if kind is DeniedError:
        return (
            f"does this user have the right to? {login} as another" if logged_in else f"it needs credentials: {login}"
        )
    if kind is RateLimitedError:
        wait = "wait a while" if retry_after_s is None else f"wait {_duration(retry_after_s)}"
        return wait + ("" if logged_in else f"; {login} often raises the limit")
    if codes & {ErrorCode.NAME_UNKNOWN, ErrorCode.MANIFEST_UNKNOWN} or kind is NotFoundError:
        return "is the name spelt right?" + ("" if logged_in else f" A private repository needs credentials: {login}")
    if status == _TOO_LARGE:
        return "a proxy before the registry limits the size of requests; its administrator can raise that"
    if status >= 500:
        return "the registry itself has a problem; its log should tell which"
    return None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
