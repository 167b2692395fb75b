"""Services, in the language of pipeline files: what the file defines, and how a job names those that it uses.

A job's part of the file is read on its own, also by a worker, so the definitions that a job names are put into its node
(``expanded``) before it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from ci.document import MappingNode, Node, SequenceNode
from ci.language.containers import IMAGE, LIMITS, SECRETS
from ci.language.limits import MAX_SERVICES
from ci.language.names import ANY, ENV, JOB_NAME_FORM
from ci.language.scalars import Duration, Whole, Words
from ci.language.shapes import Either, Fields, Key, ListOf, Made, MapOf, Reading, Schema, Shape, Text, Unreadable
from ci.model import Ready, Service
from core.suggestions import suggestion

_OWN_NAMES: Final = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})
JOBS_NAME: Final = "job"
"""What services call the container of the job that they are of."""

_MOST_PORT: Final = 65_535


def _name_fault(name: str) -> str | None:
    if name in _OWN_NAMES:
        return f"{name} is what each container calls itself; a service has another name"
    if name == JOBS_NAME:
        return f"{name} is what services call the job that they are of; a service has another name"
    return None


def _ready_fault(text: str) -> str | None:
    if not text.lstrip("+-").isdecimal() or _is_port(text):
        return None
    return f"a port is a number from 1 to {_MOST_PORT}, and this is {text[:20]}"


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(_MOST_PORT)) and 1 <= int(text) <= _MOST_PORT


def _in_shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", str(text))


def _ready(text: str) -> Ready:
    return Ready(port=int(text)) if _is_port(text) else Ready(command=_in_shell(text))


SERVICE_NAME: Final = Words("the name of a service", JOB_NAME_FORM, fault=_name_fault, is_verbatim=True)
_COMMAND: Final = Words("a command", r"[\s\S]*\S[\s\S]*")


class _Ready(Fields[Ready]):
    """A port or a command, and for how long it is waited for."""

    def read(self, node: Node, reading: Reading) -> Ready:
        if isinstance(node, MappingNode):
            keys = {name.text: name for name, _ in node.entries}
            if "port" in keys and "command" in keys:
                raise reading.refuse(
                    keys["command"].span, "a service is ready by its port or by a command, not by both"
                )
        return super().read(node, reading)


READY: Final[dict[str, Key]] = {
    "port": Key(Whole(1, _MOST_PORT), "something listens on it, of TCP"),
    "command": Key(Either(scalar=Made(_COMMAND, _in_shell), sequence=ListOf(ANY, least=1, most=1000)),
                   "it succeeds in the service's container; a list is run without a shell"),
    "timeout": Key(Duration("1h"), "how long it is waited for; 60s without", "timeout_s"),
}  # fmt: skip
SERVICE: Final[dict[str, Key]] = {
    "image": Key(IMAGE, "what it runs in, as of a job; its entrypoint, user and directory count", is_required=True),
    "env": Key(ENV, "its variables"),
    "args": Key(ListOf(ANY, least=1, most=1000), "in the place of the image's `CMD`"),
    "secrets": Key(SECRETS, "secrets that it gets"),
    "limits": Key(LIMITS, "what it may use, within the job's limits"),
    "ready": Key(
        Either(
            scalar=Made(Words("a port, or a command", r"[\s\S]*\S[\s\S]*", fault=_ready_fault), _ready),
            mapping=_Ready("`ready`", Ready, READY),
        ),
        "what says that the job may begin; without it, the image's HEALTHCHECK, or else its first port",
    ),
}
_SERVICE: Final = Fields("a service", Service, SERVICE)
DEFINITIONS: Final = MapOf(SERVICE_NAME, _SERVICE, most=100)
_NAMES: Final = ListOf(SERVICE_NAME, or_one=True, most=MAX_SERVICES)


class _Used(Shape[tuple[Service, ...]]):
    """The services of a job: names in the file, definitions once ``expanded``."""

    what = _NAMES.what

    def read(self, node: Node, reading: Reading) -> tuple[Service, ...]:
        if not isinstance(node, MappingNode):
            _NAMES.read(node, reading)
            return ()
        found = DEFINITIONS.read(node, reading)
        return tuple(replace(service, name=name) for name, service in found.items())

    def schema(self) -> Schema:
        return _NAMES.schema()


USED: Final = _Used()


def expanded(node: Node, definitions: Mapping[str, Node], reading: Reading) -> MappingNode:
    """A job's list of names, with the definitions of these services in their places.

    definitions: those of the file, by name.
    """
    try:
        names: tuple[Any, ...] = _NAMES.read(node, reading)
    except Unreadable:
        names = ()
    items = node.items if isinstance(node, SequenceNode) else (node,)
    found: dict[str, Any] = {}
    for name, key in zip(names, items, strict=False):
        assert isinstance(name, Text)
        if name in found:
            reading.problems.error(name.span, f'the service "{name}" is named twice')
        elif name not in definitions:
            hint = suggestion(name, definitions, form='"{}"') or _there_are(definitions)
            reading.problems.error(name.span, f'no service "{name}"', hint=hint)
        else:
            found[name] = (key, definitions[name])
    return MappingNode(tuple(found.values()), node.span)


def _there_are(definitions: Mapping[str, Node]) -> str:
    if not definitions:
        return "the file defines them in `services`; a part and who uses it have each their own"
    return f"there are {', '.join(definitions)}"


def defined(node: Node | None) -> dict[str, Node]:
    """The nodes of a file's services, by name."""
    return {name.text: value for name, value in node.entries} if isinstance(node, MappingNode) else {}


NEVER_REPLACED: Final = frozenset({"secrets"})
"""Keys of a service in which ``${NAME}`` is no reference."""
