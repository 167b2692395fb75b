"""Build contexts: describe one, then send the files that the server lacks."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pipelines.sources.blobstream import MEDIA_TYPE, Part, SupportsRead, decode_blobs, encode_blobs
from pipelines.sources.contexts import ContextEntry
from web.calls import Call, Streamed
from web.endpoints import Api
from web.errors import ForbiddenError, LengthRequiredError
from web.views.names import DigestText

api: Final = Api("contexts")

_CONTEXT: Final = "application/vnd.shiplap.context+json"
_NOT_HERE: Final = {404: "It is not here, or no longer"}
_MAX_FETCHED: Final = 10_000


class ContextRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every file, directory and link of the context, in any order."""

    entries: list[ContextEntry]


class ContextReply(msgspec.Struct, frozen=True):
    """A context that was described.

    context: what a run's source names. missing: digests of files that are to be sent before a run can use it.
    """

    context: str
    missing: list[str]


class BlobsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files are asked about.

    digests: of files of build contexts.
    """

    digests: Annotated[list[DigestText], msgspec.Meta(min_length=1, max_length=_MAX_FETCHED)]


class BlobsReply(msgspec.Struct, frozen=True):
    """How many blobs were taken."""

    stored: int


@api.endpoint("POST", "/contexts", scope="build", noted=False)
def begin_context(call: Call, body: ContextRequest) -> ContextReply:
    """Describe a build context, and learn which files the server lacks.

    Files that only others have sent count as lacking.
    """
    context, missing = call.service.contexts.begin(body.entries, _sender(call))
    return ContextReply(context, missing)


@api.endpoint(
    "PUT", "/contexts/blobs/{digest}", scope="build", status=204, accepts="application/octet-stream", noted=False,
    errors={411: "The request has no Content-Length"},
)  # fmt: skip
def put_blob(call: Call, digest: DigestText) -> None:
    """Send one file's content."""
    call.service.contexts.put_blob(digest, _body(call), _sender(call))


@api.endpoint("POST", "/contexts/blobs", scope="build", accepts=MEDIA_TYPE, noted=False)
def put_blobs(call: Call) -> BlobsReply:
    """Send the content of many small files at once.

    The body is a sequence of records: the digest, a space, the size in bytes as decimal digits, a newline, and then so
    many bytes.
    """
    return BlobsReply(call.service.contexts.put_blobs(decode_blobs(_body(call)), _sender(call)))


@api.endpoint("POST", "/contexts/blobs/fetch", scope="build", media=MEDIA_TYPE, noted=False, errors=_NOT_HERE)
def fetch_blobs(call: Call, body: BlobsRequest) -> Streamed:
    """Fetch the content of files, in the form in which many are sent.

    For workers whose disk is not the one that contexts are uploaded to.
    """
    _check_worker(call)
    return Streamed(encode_blobs(call.service.contexts.blobs(body.digests)))


@api.endpoint("GET", "/contexts/{context}", scope="build", media=_CONTEXT, errors=_NOT_HERE)
def show_context(call: Call, context: DigestText) -> Streamed:
    """Show the entries of a build context, byte for byte as its digest has them."""
    _check_worker(call)
    return Streamed(iter([call.service.contexts.manifest(context)]))


def _sender(call: Call) -> str:
    assert call.caller is not None, "every endpoint here asks for a token"
    return call.caller.sender


def _check_worker(call: Call) -> None:
    """Only workers, which may build everything, get what anybody sent. Raises ForbiddenError."""
    if not call.rights.may_everywhere("build"):
        raise ForbiddenError("this is for workers", hint="it needs the right to build in all projects")


def _body(call: Call) -> SupportsRead:
    if call.request.content_length is None:
        raise LengthRequiredError("the request has no Content-Length")
    return Part(call.request.stream, call.request.content_length)
