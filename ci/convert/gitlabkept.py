"""What GitLab keeps of a job: artifacts and caches."""

from __future__ import annotations

import re
from typing import Final, Protocol

from ci.convert.draft import DraftJob, Value, in_workspace, output_name
from ci.convert.foreign import Foreign
from ci.document import MappingNode, Node, SequenceNode
from dockerfile_grammar.source import Span

_UNITS: Final = {
    "second": "s", "sec": "s", "s": "s", "minute": "m", "min": "m", "mins": "m", "m": "m", "hour": "h", "hr": "h",
    "h": "h", "day": "d", "d": "d", "week": "w", "wk": "w", "w": "w", "month": "M", "mo": "M", "year": "y", "yr": "y",
}  # fmt: skip
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}
_PART: Final = re.compile(r"(\d{1,6})\s*([A-Za-z]+)?")


class Conversion(Protocol):
    """What is known of a file."""

    foreign: Foreign
    variables: dict[str, Value]

    def value(self, text: str, span: Span, variables: dict[str, Value], axes: dict[str, str]) -> str: ...


def duration(text: str) -> str | None:
    """`1h 30 minutes` as a duration of ours. None: it is none."""
    seconds = 0
    rest = re.sub(r"\b(and|,)\b", " ", text).strip()
    at = 0
    for match in _PART.finditer(rest):
        if rest[at : match.start()].strip():
            return None
        at = match.end()
        unit = (match[2] or "s").lower()
        known = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if known is None:
            return None
        seconds += int(match[1]) * _SECONDS[known]
    if rest[at:].strip() or not seconds:
        return None
    parts = (
        (seconds // 86_400, "d"),
        (seconds % 86_400 // 3600, "h"),
        (seconds % 3600 // 60, "m"),
        (seconds % 60, "s"),
    )
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def artifacts(
    conversion: Conversion, job: DraftJob, node: Node | None, own: dict[str, Value], axes: dict[str, str]
) -> None:
    """Outputs that people may have, too, and reports."""
    foreign = conversion.foreign
    table = foreign.table(node, f"`artifacts` of {job.name}")
    variables = {**conversion.variables, **own}
    name = table.text("name")
    written = conversion.value(name, table.place("name"), variables, axes) if name is not None else job.name
    common: dict[str, Value] = {"name": output_name(written) if "${" not in written else job.name, "optional": True}
    if (on := table.text("when")) in ("on_failure", "always"):
        common["on"] = "failure" if on == "on_failure" else "always"
    if (text := table.text("expire_in")) is not None:
        keep = duration(text)
        if keep is None:
            foreign.remark(table.place("expire_in"), "outputs for people are kept for a year at most; this is 365d")
            keep = "365d"
        common["keep"] = keep
    found: list[Value] = []
    for path, span in table.texts("paths"):
        if (inside := _inside(path)) is None:
            foreign.remark(span, f"an output lies in the workspace, and {path[:60]} does not")
            continue
        pattern = conversion.value(inside, span, variables, axes)
        found.append({"path": pattern, **common})
    for path, span in table.texts("exclude"):
        if (inside := _inside(path)) is not None:
            found.append({"path": f"!{conversion.value(inside, span, variables, axes)}", **common})
    if found and common.get("on") == "always":
        # People get what any end left; later jobs what a success left.
        found += [{"path": each["path"], "optional": True} for each in found if isinstance(each, dict)]
    if found and not any(isinstance(each, dict) and str(each["path"])[:1] != "!" for each in found):
        foreign.remark(table.span, f"no artifact of {job.name} is named that could be kept")
    elif found:
        job.put("outputs", found, table.span)
    reports = table.table("reports")
    if junit := [_inside(path) or path for path, _ in reports.texts("junit")]:
        job.put("reports", {"junit": list(junit)}, reports.span)
    reports.remark(
        "dotenv", "variables for later jobs are not converted", "`exports`, and `env` of the jobs that read them"
    )
    reports.leftovers()
    table.remark("untracked", "outputs are named here, and not found by what git knows")
    table.ignore("expose_as", "public", "access")
    table.leftovers()


def caches(
    conversion: Conversion, job: DraftJob, node: Node | None, own: dict[str, Value], axes: dict[str, str]
) -> None:
    """Directories that are kept. Here a cache has no key: it is what the last run of a lane left."""
    foreign = conversion.foreign
    found: list[Value] = []
    for item in node.items if isinstance(node, SequenceNode) else (node,):
        if not isinstance(item, MappingNode):
            continue
        table = foreign.table(item, f"`cache` of {job.name}")
        key = table.text("key") if not isinstance(table.get("key"), MappingNode) else None
        paths = table.texts("paths")
        for path, span in paths:
            inside = _inside(path.removesuffix("/**").removesuffix("/*"))
            if inside is None or inside == "**" or any(character in inside for character in "*?!["):
                foreign.remark(span, f"a cache is one directory, and {path[:60]} is none here")
                continue
            place = f"/work/{conversion.value(inside, span, {**conversion.variables, **own}, axes)}"
            if key is not None and "$" not in key and len(paths) == 1 and re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", key):
                found.append({"path": place, "name": key})
            else:
                found.append(place)
        table.ignore("key", "policy", "when", "fallback_keys")
        table.remark("untracked", "a cache is a directory here, and not what git does not know")
        table.leftovers()
    if found:
        job.put("caches", found)


def _inside(path: str) -> str | None:
    return in_workspace(re.sub(r"^\$\{?CI_PROJECT_DIR\}?/?", "", path))
