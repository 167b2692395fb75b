"""The API's documentation as pages, drawn from the OpenAPI document: all operations, and each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from flask import Blueprint, Response, current_app, request

from web.addresses import public_url
from web.apidocs import Operation, operations
from web.backing import service
from web.errors import NotFoundError
from web.openapi import DOCUMENT
from web.pages.frame import page

blueprint: Final = Blueprint("api_pages", __name__, url_prefix="/api")

_KNOWN: Final = "shiplap-operations"
_LONGEST: Final = 100


@blueprint.get("")
def list_operations() -> Response:
    """All operations by group, or those that have a text."""
    text = request.args.get("text", "").strip()[:_LONGEST]
    found = list(matching(text))
    groups = [(name, list(some)) for name, some in groupby(found, key=lambda operation: operation.group)]
    return page("api.html", groups=groups, text=text, count=len(found), address=public_url(service()))


@blueprint.get("/<name>")
def show_operation(name: str) -> Response:
    """One operation: parameters, examples, who may call it."""
    for operation in _operations():
        if operation.name == name:
            return page("api_operation.html", operation=operation)
    raise NotFoundError(f"the API has no operation {name[:60]!r}", hint="/api lists all")


def matching(text: str) -> Iterator[Operation]:
    """The operations that have all words of a text in path, method, name or summary; all of them for none."""
    words = text.casefold().split()
    for operation in _operations():
        told = f"{operation.method} {operation.path} {operation.name} {operation.summary}".casefold()
        if all(word in told for word in words):
            yield operation


def _operations() -> list[Operation]:
    """Of this application, made once. The address in examples is that of the first request without a public URL."""
    known: list[Operation] | None = current_app.extensions.get(_KNOWN)
    if known is None:
        document = current_app.extensions[DOCUMENT]()
        found = operations(document, public_url(service()))
        known = current_app.extensions[_KNOWN] = sorted(found, key=lambda each: each.group)
    return known
