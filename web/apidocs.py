"""The OpenAPI document as people read it: operations with their parameters, examples, and who may call them.

It knows nothing but the document: what is shown here is what the service tells programs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

_DEPTH: Final = 6
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_EXAMPLES: Final[Mapping[str, Any]] = {
    "project": "web", "run": 12, "job": "test", "number": 12, "name": "web", "user": "ada", "by": "ada",
    "branch": "main", "tag": "v1.2.3", "commit": "4f2d9c81a07be2c5d3f0a1b2c3d4e5f60718293a", "secret": "NPM_TOKEN",
    "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "repository": "web/app", "reference": "latest", "registry": "quay.io", "image": "ci.example/web/app:latest",
    "pipeline": "main", "subject": "ada", "url": "https://git.example/web.git", "title": "Round prices half up",
}  # fmt: skip
"""What stands in an example for members of these names, where their type allows it."""

_MOMENT: Final = 1764380000.0


class Parameter(msgspec.Struct, frozen=True):
    """Something that is sent. where: path, query or body. kind: its type and bounds, for people."""

    name: str
    where: str
    kind: str
    is_required: bool
    default: str


class Failure(msgspec.Struct, frozen=True):
    """An answer that is an error. status: of HTTP."""

    status: str
    meaning: str


class Operation(msgspec.Struct, frozen=True):
    """One operation.

    path: with parameters in braces, from the root.
    who: who may call it, for people.
    about: paragraphs. body_about: what the body's type says of its members.
    request: a command that calls it. body, answer: an example as JSON; "" for none.
    status: of the answer. media: of an answer that is not JSON, else "".
    """

    name: str
    method: str
    path: str
    group: str
    summary: str
    who: str
    about: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    body_about: tuple[str, ...]
    body: str
    request: str
    status: str
    answer: str
    answer_about: tuple[str, ...]
    media: str
    failures: tuple[Failure, ...]


def operations(document: Mapping[str, Any], address: str) -> list[Operation]:
    """All operations of a document, in its order. address: of the service, for commands."""
    schemas = document["components"]["schemas"]
    return [
        _operation(path, method, found, schemas, address)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    ]


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value that the schema allows, as far as its types say; members that refer to themselves end in null."""
    if depth > _DEPTH:
        return None
    if "$ref" in schema:
        return example(_resolved(schema, schemas), schemas, name, depth + 1)
    for choices in (schema.get("enum"), schema.get("examples")):
        if choices:
            return choices[0]
    if "const" in schema:
        return schema["const"]
    if schema.get("default") not in (None, "", [], {}):
        return schema["default"]
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return example(one, schemas, name, depth)
    return _of_type(schema, schemas, name, depth)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str, depth: int) -> Any:
    kind, known = schema.get("type"), _EXAMPLES.get(name)
    if kind == "object":
        members = schema.get("properties", {})
        return {member: example(inner, schemas, member, depth + 1) for member, inner in members.items()}
    if kind == "array":
        items = schema.get("items")
        return [example(items, schemas, name.removesuffix("s"), depth + 1)] if isinstance(items, Mapping) else []
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        if isinstance(known, int):
            return known
        return _MOMENT if name.endswith("at") else max(1, schema.get("minimum", 1))
    if kind == "string":
        if isinstance(known, str):
            return known
        return "" if "default" in schema and not schema.get("minLength") else "…"
    return None


def _operation(path: str, method: str, found: Mapping[str, Any], schemas: Mapping[str, Any], address: str) -> Operation:
    body: Mapping[str, Any] = found["requestBody"]["content"] if "requestBody" in found else {}
    of_body = body.get("application/json", {}).get("schema")
    status = next((code for code in found["responses"] if code.startswith("2")), "")
    answer: Mapping[str, Any] = found["responses"].get(status, {})
    content = answer.get("content", {})
    of_answer = content.get("application/json", {}).get("schema")
    sent = "" if of_body is None else _shown(example(of_body, schemas))
    return Operation(
        name=found["operationId"],
        method=method.upper(),
        path=path,
        group=found["tags"][0],
        summary=found["summary"],
        who=_who(path, found["security"]),
        about=tuple(filter(None, found.get("description", "").split("\n\n"))),
        parameters=tuple(_parameters(found, of_body, schemas)),
        body_about=_about(of_body, schemas),
        body=sent,
        request=_command(method.upper(), path, address, sent, [*body], bool(found["security"])),
        status=status,
        answer="" if of_answer is None else _shown(example(of_answer, schemas)),
        answer_about=_about(of_answer, schemas),
        media=next((media for media in content if media != "application/json"), ""),
        failures=tuple(
            Failure(code, told["description"])
            for code, told in found["responses"].items()
            if code.isdigit() and not code.startswith("2")
        ),
    )


def _parameters(
    found: Mapping[str, Any], body: Mapping[str, Any] | None, schemas: Mapping[str, Any]
) -> Iterable[Parameter]:
    for each in found["parameters"]:
        schema = each["schema"]
        yield Parameter(each["name"], each["in"], _kind(schema, schemas), each["required"], _default(schema))
    if body is None:
        return
    whole = _resolved(body, schemas)
    for name, schema in whole.get("properties", {}).items():
        yield Parameter(name, "body", _kind(schema, schemas), name in whole.get("required", ()), _default(schema))


def _who(path: str, security: list[dict[str, list[str]]]) -> str:
    if not security:
        return "anybody, without a token"
    level = security[0]["token"][0]
    if level == "admin":
        return "administrators of the service"
    may = {"read": "who may read", "build": "who may build in", "maintain": "who maintains"}[level]
    if any(f"{{{name}}}" in path for name in ("project", "run", "repository")):
        return f"{may} the project"
    return f"{may} some project" + ("; what they may not see is left out" if level == "read" else "")


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> str:
    """The type and its bounds, in words."""
    if "$ref" in schema:
        whole = _resolved(schema, schemas)
        return _kind(whole, schemas, depth + 1) if "enum" in whole and depth < _DEPTH else _name(schema)
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each, schemas, depth + 1) for each in schema["anyOf"]))
    kind = str(schema.get("type", "anything"))
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list of {_kind(schema['items'], schemas, depth + 1)}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_kind(inner, schemas, depth + 1)}" if isinstance(inner, Mapping) else "object"
    return " ".join([kind, *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> Iterable[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        yield f"{least:,} to {most:,}"
    elif least is not None or most is not None:
        yield f"from {least:,}" if least is not None else f"up to {most:,}"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']:,} characters"


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""


def _about(schema: Mapping[str, Any] | None, schemas: Mapping[str, Any]) -> tuple[str, ...]:
    """What the type says of itself: paragraphs, each on one line."""
    if schema is None:
        return ()
    text = str(_resolved(schema, schemas).get("description", ""))
    return tuple(" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip())


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema
    for _ in range(_DEPTH):
        if "$ref" not in found:
            break
        found = schemas[_name(found)]
    return found


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _shown(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _command(method: str, path: str, address: str, body: str, media: list[str], with_token: bool) -> str:
    filled = _PARAMETER.sub(lambda found: str(_EXAMPLES.get(found[1], found[1].upper())), path)
    words = ["curl"]
    if method != "GET":
        words += ["-X", method]
    if with_token:
        words.append('-H "Authorization: Bearer $SHIPLAP_TOKEN"')
    if body:
        words.append("--json @body.json")
    elif media:
        words.append(f'-H "Content-Type: {media[0]}" --data-binary @FILE')
    return " ".join([*words, f"{address}{filled}"])
