"""POST /hooks/PROJECT: a forge's webhook. The signature is the right to knock: no token, no session, no cookie.

202 {"outcome": "queued", "runs": [12], …}   runs were queued
200 {"outcome": "ignored", "reason": …}      nothing to do, or done before
401, 403                                     no signature; a wrong one, another repository, or no such project
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
from flask import Blueprint, Response, request

from pipelines.forges.errors import MissingSignatureError, WebhookError, WrongSignatureError
from pipelines.hooks.deliveries import MAX_BODY_BYTES
from web.addresses import run_url
from web.backing import service
from web.errors import ForbiddenError, LengthRequiredError, RequestError, TooLargeError

blueprint: Final = Blueprint("hooks", __name__)


class HookReply(msgspec.Struct, frozen=True):
    """The answer to a forge.

    delivery: its number in the project's list of deliveries.
    links: addresses of the runs' pages.
    repeated: the delivery had come before.
    """

    delivery: int
    outcome: str
    reason: str
    runs: tuple[int, ...]
    links: tuple[str, ...]
    repeated: bool = False


class UnsignedError(RequestError):
    """A webhook without signature. The answer has no challenge: forges know no other way to say who they are."""

    status = 401
    code = "unsigned"


@blueprint.post("/hooks/<project>")
@blueprint.post("/hooks/<project>/<forge>")
def receive(project: str, forge: str = "") -> Response:
    """Take a webhook. forge: given where the headers do not show it, or to be strict."""
    body, headers = signed_request()
    with refusals():
        answer = service().receiver.receive(project, headers, body, forge=forge)
    delivery = answer.delivery
    reason = f"delivery {delivery.delivery} came before: {delivery.reason}" if answer.repeated else delivery.reason
    links = tuple(run_url(service(), run) for run in delivery.runs)
    reply = HookReply(delivery.id, delivery.outcome, reason, delivery.runs, links, answer.repeated)
    status = 200 if answer.repeated else delivery.status
    return Response(msgspec.json.encode(reply), status, mimetype="application/json")


def signed_request() -> tuple[bytes, dict[str, str]]:
    """The raw bytes, which the signature is for; and the headers, with names in lower case."""
    return _body(), {name.lower(): value for name, value in request.headers.items()}


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn the receiver's refusals into answers."""
    try:
        yield
    except MissingSignatureError as error:
        raise UnsignedError(error.message, hint=error.hint) from error
    except WrongSignatureError as error:
        raise ForbiddenError(error.message, hint=error.hint) from error
    except WebhookError as error:
        raise RequestError(error.message, hint=error.hint) from error


def _body() -> bytes:
    if request.content_length is None:
        raise LengthRequiredError("the request has no Content-Length")
    if request.content_length > MAX_BODY_BYTES:
        raise TooLargeError(f"the body has {request.content_length} bytes, at most {MAX_BODY_BYTES} are taken")
    return request.stream.read(MAX_BODY_BYTES)
