"""Endpoints: functions whose annotations are their contract.

    @api.endpoint("GET", "/runs/{run}", scope="read")
    def show_run(call: Call, run: int) -> RunView: ...

Parameters are decoded by these types before the function is called. They stand in the path; or they are ``query``, a
msgspec Struct of query parameters, or ``body``, a msgspec Struct as JSON. The OpenAPI document is made from the same
types, so the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_type_hints

import msgspec

from pipelines.accounts.roles import Level
from pipelines.shapes import described, explain
from web.errors import InvalidRequestError

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler: TypeAlias = Callable[..., Any]

PARAMETER: Final = re.compile(r"\{(\w+)\}")
_SPECIAL: Final = ("call", "query", "body", "return")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API.

    path: below /api/v1, ``{name}`` for parameters.
    scope: what the sender must be allowed in the path's project, see ``web.guard.rights``; None: anybody may ask.
    result: the type of the JSON that is sent; None for an empty answer.
    media: the content type of an answer that is not JSON; ``result`` is then not encoded.
    accepts: the content type of a body that is not JSON.
    location: the address of what was made, below /api/v1, with ``{0.member}`` of the result.
    errors: codes by status, for the document.
    noted: whether the audit trail shows it when it changed something.
    is_websocket: it is asked for a WebSocket, too, and takes the connection over then.
    """

    method: Method
    path: str
    handler: Handler
    scope: Level | None
    status: int
    path_types: Mapping[str, Any]
    query: type[msgspec.Struct] | None
    body: Any
    result: Any
    media: str = "application/json"
    accepts: str = "application/json"
    location: str = ""
    errors: Mapping[int, str] = field(default_factory=dict)
    noted: bool = True
    is_websocket: bool = False

    @property
    def is_noted(self) -> bool:
        return self.noted and self.method != "GET" and self.scope is not None

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """The first paragraph of the handler's docstring."""
        return " ".join((self.handler.__doc__ or "").strip().partition("\n\n")[0].split())

    @property
    def description(self) -> str:
        """The rest of the docstring."""
        rest = (self.handler.__doc__ or "").partition("\n\n")[2]
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.strip().split("\n\n"))

    def path_arguments(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Decode the parameters in the path. Raises InvalidRequestError."""
        return {name: _from_path(name, text, self.path_types[name]) for name, text in values.items()}

    def query_argument(self, values: Mapping[str, str]) -> msgspec.Struct | None:
        """Decode the query string. Raises InvalidRequestError, also for unknown parameters."""
        if self.query is None:
            if values:
                raise InvalidRequestError(f"unknown query parameter {next(iter(values))!r}", hint="this takes none")
            return None
        argument: msgspec.Struct = _convert(dict(values), self.query, "the query")
        return argument


class Api:
    """A list of endpoints that grows by decoration. tag: the name of their group in the document."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.endpoints: list[Endpoint] = []

    def endpoint(
        self,
        method: Method,
        path: str,
        *,
        scope: Level | None,
        status: int = 200,
        media: str = "application/json",
        accepts: str = "application/json",
        location: str = "",
        errors: Mapping[int, str] | None = None,
        noted: bool = True,
        is_websocket: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function. See ``Endpoint``."""

        def register(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            names = PARAMETER.findall(path)
            unknown = set(hints) - {*names, *_SPECIAL}
            if unknown:
                raise TypeError(f"{handler.__name__} of {path} takes {unknown}")
            self.endpoints.append(
                Endpoint(
                    method,
                    path,
                    handler,
                    scope,
                    status,
                    {name: hints[name] for name in names},
                    hints.get("query"),
                    hints.get("body"),
                    hints["return"] if media == "application/json" else None,
                    media,
                    accepts,
                    location,
                    errors or {},
                    noted,
                    is_websocket,
                )
            )
            return handler

        return register

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)


def decode_body(data: bytes, kind: Any) -> Any:
    """A JSON body as ``kind``. Raises InvalidRequestError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(explain(error, kind, "the body"), hint=_DOCUMENT) from error
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the body is no JSON: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("the body is no JSON that can be read") from error


_DOCUMENT: Final = "/api/v1/openapi.json describes what each request takes"


def _convert(value: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(explain(error, kind, what), hint=_DOCUMENT) from error


def _from_path(name: str, text: str, kind: Any) -> Any:
    """Decode a part of the path. Raises InvalidRequestError."""
    told = described(kind)
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        if told:
            thing, _, form = told.partition(": ")
            thing = thing[0].lower() + thing[1:]
            raise InvalidRequestError(f"{text[:100]!r} is not {thing}", hint=form or _DOCUMENT) from error
        raise InvalidRequestError(explain(error, kind, f"{name} in the path"), hint=_DOCUMENT) from error
