"""Questions about a Dockerfile in place of a build: ``--call`` and ``--check`` of buildx."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from builder.errors import stop_when
from builder.frontend import answers
from builder.frontend.outline import outline, targets
from builder.frontend.parsing import parse_remembered
from core.cancellation import asking
from dockerapi import imagedocs
from dockerapi.buildkit.rpc import Code, RpcError
from dockerapi.buildkit.solving import Plan, Solve, connecting, definition
from dockerapi.buildkit.wanted import Attributes

_PREFIX: Final = "frontend."
_KINDS: Final = {
    "outline": "what a target takes",
    "targets": "the targets",
    "lint": "what the build checks find",
    "subrequests.describe": "which questions there are",
}


def answered(tools: Solve, attributes: Attributes, question: str) -> dict[str, bytes]:
    """The answer, as members of a result. question: as ``requestid`` has it. Raises ShiplapErrors."""
    kind = question.removeprefix(_PREFIX)
    if kind not in _KINDS:
        raise RpcError(Code.UNIMPLEMENTED, f"{question[:100]} is not done: {', '.join(_KINDS)} are")
    if kind == "subrequests.describe":
        return _result([{"name": _PREFIX + name, "description": text, "type": "rpc"} for name, text in _KINDS.items()])
    with contextlib.ExitStack() as stack:
        stack.enter_context(asking(stop_when(tools.cancelled.is_set)))
        store = stack.enter_context(imagedocs.opened(tools.engine))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=store.tmp, prefix="call-")))
        request = definition(tools, Plan(attributes, []), scratch, stack)
        dockerfile = parse_remembered(request.dockerfile, request.dockerfile_name, store)
        sources = [{"filename": request.dockerfile_name, "language": "Dockerfile", "data": _base64(request.dockerfile)}]
        if kind == "targets":
            return _result({**answers.targets_document(targets(dockerfile)), "sources": [sources[0]["data"]]})
        if kind == "outline":
            made = outline(dockerfile, request.target, request.build_args, request.platform)
            return _result({**answers.outline_document(made), "sources": [sources[0]["data"]]})
        found = answers.findings(dockerfile, request, store, connecting(tools))
        document = answers.check_document(dockerfile, found)
        for warning in document["warnings"]:
            warning["location"]["sourceIndex"] = 0
        return {**_result({**document, "sources": sources}), "result.statuscode": b"1" if found else b"0"}


def _result(document: Any) -> dict[str, bytes]:
    text = json.dumps(document, indent=2).encode()
    return {"result.json": text, "result.txt": text, "version": b"1.0.0"}


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()
