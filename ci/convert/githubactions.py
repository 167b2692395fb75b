"""The actions of GitHub's that are something here: tools that are an image, caches, artifacts, images."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ci.convert.draft import Value, in_workspace, output_name
from ci.convert.foreign import Table
from ci.convert.githubvalues import JobValues
from dockerfile_grammar.source import Span


class Tool(NamedTuple):
    """What an action sets up. version: the key that names it. caches: directories by what `cache` may be."""

    image: str
    version: str
    caches: dict[str, tuple[str, ...]]


_JAVA: Final = {"maven": ("/root/.m2/repository",), "gradle": ("/root/.gradle/caches", "/root/.gradle/wrapper")}
TOOLS: Final = {
    "actions/setup-python": Tool("python:{}", "python-version", {"pip": ("/root/.cache/pip",)}),
    "actions/setup-node": Tool("node:{}", "node-version", {"npm": ("/root/.npm",)}),
    "actions/setup-go": Tool("golang:{}", "go-version", {"true": ("/root/.cache/go-build", "/go/pkg/mod")}),
    "actions/setup-java": Tool("eclipse-temurin:{}", "java-version", _JAVA),
    "actions/setup-dotnet": Tool("mcr.microsoft.com/dotnet/sdk:{}", "dotnet-version", {}),
    "ruby/setup-ruby": Tool("ruby:{}", "ruby-version", {}),
    "shivammathur/setup-php": Tool("php:{}-cli", "php-version", {}),
    "dtolnay/rust-toolchain": Tool("rust:{}", "toolchain", {}),
    "actions-rs/toolchain": Tool("rust:{}", "toolchain", {}),
    "denoland/setup-deno": Tool("denoland/deno:{}", "deno-version", {}),
    "oven-sh/setup-bun": Tool("oven/bun:{}", "bun-version", {}),
}
NOTHING_TO_DO: Final = frozenset({"docker/setup-buildx-action", "docker/setup-qemu-action"})
ONLY_LISTED: Final = {
    "docker/login-action": "the log-in to a registry is a secret of the project",
    "docker/metadata-action": "names of images are in `tags`, or the project's",
}
_VERSION: Final = re.compile(r"v?(\d+(?:\.\d+){0,2}(?:-[A-Za-z0-9.]+)?)(?:\.[x*]){0,2}")


def version_of(text: str) -> str | None:
    """The version as an image's tag has it. None: it is not one version."""
    text = text.strip()
    if text in ("lts/*", "lts"):
        return "lts"
    match = _VERSION.fullmatch(text)
    return match[1] if match else None


def checkout(table: Table, source: dict[str, Value]) -> None:
    """`actions/checkout`: the files are there anyway. source: how they come, of the whole pipeline."""
    depth = table.text("fetch-depth")
    if depth not in (None, "0", "1"):
        source["history"] = str(depth)
    if (table.text("submodules") or "false") in ("true", "recursive"):
        source["submodules"] = True
    if table.truth("lfs"):
        source["lfs"] = True
    table.ignore("fetch-tags", "persist-credentials", "clean", "show-progress", "set-safe-directory", "filter")
    for key in ("repository", "ref", "path", "token", "ssh-key", "sparse-checkout"):
        table.remark(key, f"`{key}` of a checkout is not converted: the commit's files are in /work")
    table.leftovers()


def cache(table: Table, values: JobValues) -> list[Value]:
    """`actions/cache`: directories that are kept. Here a cache has no key: it is what the last run left."""
    found: list[Value] = []
    for path, span in _paths(table, "path"):
        place = in_container(path)
        written = values.value(place, span) if place is not None else None
        if written is None or any(character in written for character in "*?!["):
            table.foreign.remark(span, f"a cache is one directory, and {path[:60]} is none here")
        else:
            found.append(written.rstrip("/"))
    table.ignore("key", "restore-keys", "enableCrossOsArchive", "fail-on-cache-miss", "lookup-only", "save-always")
    table.leftovers()
    return found


def upload(table: Table, values: JobValues, on: str) -> list[Value]:
    """`actions/upload-artifact`: outputs with a name."""
    name, name_span = table.text("name") or "artifact", table.place("name") if "name" in table else table.span
    written = values.value(name, name_span)
    fails = (table.text("if-no-files-found") or "warn") == "error"
    days = table.text("retention-days")
    found: list[Value] = []
    for path, span in _paths(table, "path"):
        is_left_out = path.startswith("!")
        inside = _in_workspace(path.removeprefix("!"))
        pattern = values.value(inside, span) if inside is not None else None
        if pattern is None:
            table.foreign.remark(span, f"an output lies in the workspace, and {path[:60]} does not")
            continue
        value: dict[str, Value] = {"path": f"!{pattern}" if is_left_out else pattern}
        value["name"] = output_name(re.sub(r"\$\{\w+\}", "", written or "artifact"))
        if on != "success":
            value["on"] = on
        if not fails and not is_left_out:
            value["optional"] = True
        if days and days.isdigit() and 0 < int(days) <= 365:
            value["keep"] = f"{int(days)}d"
        found.append(value)
    table.ignore("compression-level", "overwrite", "include-hidden-files")
    table.leftovers()
    return in_order(found)


def in_order(outputs: list[Value]) -> list[Value]:
    """Outputs with what is left out behind what is meant; where nothing is meant, none."""
    meant = [each for each in outputs if isinstance(each, dict) and not str(each["path"]).startswith("!")]
    return [*meant, *(each for each in outputs if each not in meant)] if meant else []


def download(table: Table, span: Span) -> None:
    """`actions/download-artifact`: what jobs before this one output is there, where they wrote it."""
    path = table.text("path")
    name = table.text("name") or "every artifact"
    where = f" in {path}" if path else ""
    table.foreign.remark(
        span,
        f"{name} is not unpacked{where}: the files are where the job before wrote them",
        "`into` of its `outputs` puts them elsewhere",
    )
    for key in ("pattern", "run-id", "repository", "github-token"):
        table.remark(key, f"`{key}` of a download is not converted")
    table.ignore("merge-multiple", "skip-decompress")
    table.leftovers()


def build(table: Table, values: JobValues) -> dict[str, Value]:
    """`docker/build-push-action`: what `build` says."""
    found: dict[str, Value] = {}
    context = table.text("context")
    found["context"] = "." if context is None or "${{" in context or "://" in context else context
    if context is not None and ("${{" in context or "://" in context):
        table.foreign.remark(table.place("context"), "the context is the commit's files here")
    for theirs, ours in (("file", "file"), ("target", "target")):
        if (text := table.text(theirs)) is not None and (written := values.value(text, table.place(theirs))):
            found[ours] = written
    tags = [values.value(tag, span) for tag, span in _paths(table, "tags", by_comma=True)]
    if tags and None not in tags:
        found["tags"] = [tag for tag in tags if tag]
    elif tags:
        table.foreign.remark(table.place("tags"), "the image has the project's names until `tags` says others")
    arguments: dict[str, Value] = {}
    for line, span in _paths(table, "build-args"):
        name, _, value = line.partition("=")
        if (text := values.value(value, span)) is not None:
            arguments[name] = text
    if arguments:
        found["args"] = arguments
    if platforms := [text for text, _ in _paths(table, "platforms", by_comma=True)]:
        found["platforms"] = list(platforms)
    if not table.truth("push"):
        found["push"] = False
    table.ignore("cache-from", "cache-to", "load", "pull", "no-cache", "builder", "labels", "annotations")
    for key in ("secrets", "secret-files", "outputs", "ssh", "build-contexts"):
        table.remark(key, f"`{key}` of an image is not converted")
    table.leftovers()
    return found


def in_container(path: str) -> str | None:
    """A directory of the container: of root's home, or of the workspace. None: it leads out of it."""
    if path.startswith("~/"):
        return f"/root/{path[2:]}"
    if path.startswith("/"):
        return path
    inside = _in_workspace(path)
    return None if inside is None else f"/work/{inside}"


def _in_workspace(path: str) -> str | None:
    return in_workspace(re.sub(r"^\$\{\{\s*github\.workspace\s*\}\}/?", "", path))


def _paths(table: Table, key: str, *, by_comma: bool = False) -> list[tuple[str, Span]]:
    """The lines of a text."""
    return [
        (part.strip(), span)
        for text, span in table.texts(key)
        for line in text.split("\n")
        for part in (line.split(",") if by_comma else (line,))
        if part.strip() and not part.strip().startswith("#")
    ]
