"""A job's part of the language of pipeline files: every key, what its value may look like, and what it means.

The declarations of this street are the only ones. Lint reads files by them, ``shiplap ci schema`` prints them for
editors, and documentation is made from them. Rules that take more than one value to see are ``ci.checks``'.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

from ci import patterns
from ci.document import MappingNode, Node
from ci.language.containers import IMAGE, IMAGE_BUILD, LIMITS, SECRETS, from_path
from ci.language.limits import MAX_COMBINATIONS, MAX_JOBS
from ci.language.names import (
    ANY,
    ANY_JOB_FORM,
    CONCURRENCY,
    ENV,
    FILLED,
    INSIDE,
    MEMBER,
    PATH_PATTERN,
    PATTERN,
    PATTERNS,
    PLATFORM,
    SETTABLE,
    VARIABLE,
    absolute_fault,
    cached_fault,
    part_fault,
    shell_fault,
    variable_fault,
)
from ci.language.scalars import Choice, Duration, Flag, Size, Whole, Words
from ci.language.services import USED
from ci.language.shapes import (
    Either,
    Fields,
    Key,
    ListOf,
    Made,
    MapOf,
    Reading,
    Schema,
    Shape,
    Text,
    Unreadable,
    first_span,
    misplaced,
)
from ci.model import (
    EVENTS,
    Build,
    Cache,
    Directories,
    Fits,
    Gate,
    Job,
    Matrix,
    Need,
    Output,
    ReportsWanted,
    Retry,
)
from ci.reports.coverage import expression_fault
from dockerfile_grammar.source import Span

_BUILD: Final[dict[str, Key]] = {
    **IMAGE_BUILD,
    "platforms": Key(ListOf(PLATFORM, or_one=True, least=1, most=16), "what to build for"),
    "tags": Key(ListOf(FILLED, or_one=True, least=1, most=50), "names of the image; without them, the project's"),
    "push": Key(Flag(), "whether the image is pushed; without, later jobs of the run have it all the same"),
    "sbom": Key(Flag(), "whether the packages in the image are listed with it"),
    "provenance": Key(Choice("min", "max", "false"), "what is said of how the image was built"),
}  # fmt: skip


BUILD: Final = Either(scalar=Made(INSIDE, from_path(Build)), mapping=Fields("`build`", Build, _BUILD))


def _need(text: Text) -> Need:
    return Need(text.removesuffix("?"), text.endswith("?"), text)


NEEDS: Final = ListOf(
    Made(Words("the name of a job", rf"{ANY_JOB_FORM}(?: \([^()]*\))?\??"), _need), or_one=True, most=MAX_JOBS
)

_WHEN: Final = Fields("`when`", Fits, {
    "event": Key(ListOf(Choice(*EVENTS), or_one=True, least=1), "what the run is of"),
    "branch": Key(PATTERNS, "the branch that is run; of a pull request, its own"),
    "target": Key(PATTERNS, "the branch that a pull request is to go into"),
    "tag": Key(PATTERNS, "the tag"),
    "paths": Key(PATTERNS, "files of which one has to have changed"),
    "fork": Key(Flag(), "whether the commit comes from a fork"),
    "matrix": Key(MapOf(VARIABLE, ListOf(ANY, or_one=True, least=1)), "values of the matrix that are meant"),
    "params": Key(MapOf(SETTABLE, ListOf(ANY, or_one=True, least=1)), "values of parameters that are meant"),
})  # fmt: skip

_AXIS_NAME: Final = r"[A-Z][A-Z0-9_]{0,49}"
_AXIS: Final = Words("a name in capitals", _AXIS_NAME, fault=variable_fault, is_verbatim=True)
_COMBINATION: Final = MapOf(_AXIS, ANY)
_VALUES: Final = Either(
    sequence=ListOf(ANY, least=1, most=MAX_COMBINATIONS),
    mapping=Fields("a list of the matrix", Directories, {
        "directories": Key(PATTERN, "one value for each directory that fits", "pattern", is_required=True),
    }),
)  # fmt: skip


class _Matrix(Shape[Matrix]):
    """Lists by names in capitals, beside keys of ours, which are small."""

    what = "a map from names in capitals to lists of values"
    keys: Final[Mapping[str, Key]] = {
        "include": Key(ListOf(_COMBINATION, most=MAX_COMBINATIONS), "combinations that are added"),
        "exclude": Key(ListOf(_COMBINATION, most=MAX_COMBINATIONS), "combinations that are left out"),
        "max_parallel": Key(Whole(1, MAX_COMBINATIONS), "how many of its jobs run at once"),
        "fail_fast": Key(Flag(), "whether the first failure cancels the others"),
    }

    def read(self, node: Node, reading: Reading) -> Matrix:
        if not isinstance(node, MappingNode):
            raise misplaced(node, self.what, reading)
        options: dict[str, Any] = {}
        lists: dict[str, Any] = {}
        is_whole = True
        for name, value in node.entries:
            try:
                if name.text in self.keys:
                    options[name.text] = self.keys[name.text].shape.read(value, reading)
                else:
                    lists[_AXIS.read(name, reading)] = _VALUES.read(value, reading)
            except Unreadable:
                is_whole = False
        if not is_whole:
            raise Unreadable
        if not lists and not options.get("include"):
            raise reading.refuse(node.span, "a matrix has a list of values, or combinations to include")
        return Matrix(lists, **options)

    def schema(self) -> Schema:
        properties = {name: {"description": key.about, **key.shape.schema()} for name, key in self.keys.items()}
        return {
            "type": "object", "properties": properties, "minProperties": 1, "additionalProperties": False,
            "patternProperties": {f"^{_AXIS_NAME}$": _VALUES.schema()},
        }  # fmt: skip


_OUTPUT: Final = Either(
    scalar=Made(PATH_PATTERN, lambda path: Output(path)),
    mapping=Fields("an output", Output, {
        "path": Key(PATH_PATTERN, "what is kept of the workspace", is_required=True),
        "into": Key(INSIDE, "the directory in which later jobs find it"),
        "optional": Key(Flag(), "whether there may be no such file"),
        "name": Key(Words("a name of letters, digits, `.`, `_` and `-`", r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
                          is_verbatim=True), "for people, too, by this name"),
        "preview": Key(Flag(), "whether a mark at the commit opens what has this name"),
        "on": Key(Choice("success", "failure", "always"), "the end that it is taken of; but for `success`, for people"),
        "keep": Key(Duration("365d"), "how long people find it", "keep_s"),
    }),
)  # fmt: skip

_REPORTS: Final = Fields("`reports`", ReportsWanted, {
    "junit": Key(ListOf(PATH_PATTERN, or_one=True, least=1, most=patterns.MOST), "files with results, as JUnit XML"),
    "coverage": Key(Words("a regular expression", r".{1,500}", fault=expression_fault, is_verbatim=True),
                    "what finds the coverage in the output; its first group, else what it matches, has the number"),
    "summary": Key(INSIDE, "a file with a text for people, 64 KiB at most"),
})  # fmt: skip
_CACHED: Final = Words("a path", fault=cached_fault)
_CACHE: Final = Either(
    scalar=Made(_CACHED, lambda path: Cache(path)),
    mapping=Fields("a cache", Cache, {
        "path": Key(_CACHED, "the directory", is_required=True),
        "name": Key(Words("the name of a cache", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"),
                    "by which jobs of the project share it; without it, it is the job's own"),
        "limit": Key(Size(), "when more than that was kept, it begins empty"),
    }),
)  # fmt: skip


class _Caches(ListOf[Cache]):
    """Caches that are apart from each other."""

    def read(self, node: Node, reading: Reading) -> tuple[Cache, ...]:
        found = super().read(node, reading)
        paths: set[str] = set()
        names: set[str] = set()
        for cache in found:
            path = posixpath.normpath(cache.path).lstrip("/") + "/"
            if any(path.startswith(known) or known.startswith(path) for known in paths):
                raise reading.refuse(_place(cache.path, node), f"{cache.path} lies in another cache, or has one in it")
            if cache.name and cache.name in names:
                raise reading.refuse(_place(cache.name, node), f"this job has the cache {cache.name} already")
            paths.add(path)
            names.add(cache.name)
        return found


def _place(text: str, node: Node) -> Span:
    return text.span if isinstance(text, Text) else node.span


_MESSAGE: Final = Words("a question", r"[\s\S]*\S[\s\S]*", most=2000)
GATE: Final[dict[str, Key]] = {
    "message": Key(_MESSAGE, "what is asked", is_required=True),
    "by": Key(ListOf(MEMBER, or_one=True, least=1, most=50), "who may answer, of those who may maintain the project"),
    "not_author": Key(Flag(), "whether somebody else than the author has to answer"),
    "timeout": Key(Duration("30d"), "how long it waits", "timeout_s"),
}
_APPROVE: Final = Either(scalar=Made(_MESSAGE, Gate), mapping=Fields("`approve`", Gate, GATE))

RETRY: Final[dict[str, Key]] = {
    "times": Key(Whole(0, 10), "further attempts"),
    "on": Key(
        ListOf(Words("failure, timeout or an exit code", r"failure|timeout|[1-9]\d{0,2}"), or_one=True, least=1),
        "the failures that are tried again",
    ),
}
_LABEL: Final = Words("a worker's label", r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,62}")

KINDS: Final = ("run", "args", "build", "approve", "use")
"""Of which each job has exactly one."""

JOB: Final[dict[str, Key]] = {
    "run": Key(ListOf(Words("a command", r"[\s\S]*\S[\s\S]*", is_verbatim=True), or_one=True, least=1, most=200),
               "a script, or a list of them, in one shell; each is a step"),
    "args": Key(ListOf(ANY, least=1, most=1000), "a command without a shell"),
    "build": Key(BUILD, "an image, as `shiplap build` makes it of the workspace"),
    "approve": Key(_APPROVE, "a gate: the run goes on when somebody has said yes"),
    "use": Key(Words("the place of a part", r"[\s\S]+", fault=part_fault, is_verbatim=True),
               "the jobs of a part: `./FILE`, or `https://HOST/REPO.git#COMMIT:FILE`"),
    "with": Key(MapOf(SETTABLE, ANY, most=50), "the part's parameters, by name", "given"),
    "image": Key(IMAGE, "what it runs in"),
    "needs": Key(NEEDS, "jobs that have to succeed before; `NAME?`: if it is in this run"),
    "after": Key(Choice("success", "failure", "always"), "what has to have become of its needs"),
    "when": Key(Either(mapping=Made(_WHEN, lambda fits: (fits,)), sequence=ListOf(_WHEN, least=1, most=50),
                       what=f"{_WHEN.what}, or a list of such"),
                "when it is in a run: all of a map have to fit, and of several maps one"),
    "matrix": Key(_Matrix(), "a job for each combination of values"),
    "env": Key(ENV, "its variables"),
    "secrets": Key(SECRETS, "secrets that it gets"),
    "inputs": Key(ListOf(PATH_PATTERN, or_one=True, least=1, most=patterns.MOST),
                  "what it sees of the workspace; it is not run again while that stays as it is"),
    "outputs": Key(ListOf(_OUTPUT, or_one=True, most=200), "files that later jobs get"),
    "exports": Key(ListOf(VARIABLE, or_one=True, most=100), "values that later jobs may read, as `${JOB.NAME}`"),
    "reports": Key(_REPORTS, "results of tests, coverage, a summary: for people"),
    "services": Key(USED, "services beside it, of those that the file defines: fresh ones, which it reaches by name"),
    "caches": Key(_Caches(_CACHE, or_one=True, most=20), "directories that are kept for its next runs"),
    "engine": Key(Flag(), "whether it has a Docker engine of its own, at `DOCKER_HOST`"),
    "shell": Key(Words("a text that is not empty", r"[\s\S]+", fault=shell_fault),
                 "`sh`, `bash`, or a command that gets the script's path"),
    "user": Key(FILLED, "the user in the container"),
    "workdir": Key(Words("a directory of the container", fault=absolute_fault), "where its commands begin"),
    "tty": Key(Flag(), "whether output goes to a terminal"),
    "workers": Key(ListOf(_LABEL, or_one=True, most=5), "labels that a worker has to have"),
    "platform": Key(PLATFORM, "the platform of its container"),
    "limits": Key(LIMITS, "what it and its services may use, within the worker's limits"),
    "network": Key(Choice("default", "none"), "`none`: nothing is reached but its services"),
    "timeout": Key(Duration("6h"), "of an attempt", "timeout_s"),
    "grace": Key(Duration("5m"), "between SIGTERM and SIGKILL, when it is ended", "grace_s"),
    "retry": Key(Either(scalar=Made(Whole(0, 10), Retry), mapping=Fields("`retry`", Retry, RETRY)), "further attempts"),
    "may_fail": Key(Flag(), "whether its failure stops nobody"),
    "concurrency": Key(CONCURRENCY, "a group, of which so many run at once in the project"),
    "reuse": Key(Flag(), "`false`: it runs although its inputs stayed as they were"),
}  # fmt: skip

_OF_COMMANDS: Final = frozenset(
    {"image", "env", "secrets", "inputs", "outputs", "exports", "reports", "caches", "user", "workdir", "tty", "reuse"}
    | {"services", "engine"}
)
_OF_PARTS: Final = frozenset({"with"})
USELESS: Final[Mapping[str, frozenset[str]]] = {
    "run": _OF_PARTS, "args": _OF_PARTS | {"shell"}, "build": _OF_PARTS | _OF_COMMANDS | {"shell"},
    "approve": frozenset(JOB) - {*KINDS, "needs", "after", "when", "matrix"},
    "use": frozenset(JOB) - {*KINDS, "with", "needs", "when"},
}  # fmt: skip
"""Keys for which a kind of job has no use, by the kind."""

INSTEAD: Final[Mapping[tuple[str, str], str]] = {
    ("build", "inputs"): "its steps come from the cache by what they copy; `.dockerignore` leaves files out",
    ("build", "env"): "`args` of its `build` give values to the Dockerfile's ARGs",
    ("build", "secrets"): "they stand in the map of its `build`",
}
"""What to write in the place of some of them, by the kind and the key."""


class _Job(Fields[Job]):
    """A job: exactly one key says what it does, and the others are of use to that."""

    def read(self, node: Node, reading: Reading) -> Job:
        if isinstance(node, MappingNode):
            self._check(node, reading)
        return super().read(node, reading)

    def _check(self, node: MappingNode, reading: Reading) -> None:
        keys = {name.text: name for name, _ in node.entries}
        kinds = [name for name in KINDS if name in keys]
        if not kinds:
            reading.problems.error(
                first_span(node), "a job has one of `run`, `args`, `build`, `approve` and `use`: what it does"
            )
            return
        for other in kinds[1:]:
            reading.problems.error(keys[other].span, f"a job has either `{kinds[0]}` or `{other}`")
        for name in USELESS.get(kinds[0], frozenset()) & keys.keys():
            hint = INSTEAD.get((kinds[0], name))
            reading.problems.error(keys[name].span, f"a job with `{kinds[0]}` has no use for `{name}`", hint=hint)
        if kinds[0] in ("run", "args") and "image" not in keys:
            hint = "the container's image, such as python:3.13-slim, or {build: DIRECTORY}"
            reading.problems.error(first_span(node), "a job that runs something has an `image`", hint=hint)

    def schema(self) -> Schema:
        one_of = []
        for kind in KINDS:
            others = sorted(USELESS[kind] | (set(KINDS) - {kind}))
            needed = [kind, "image"] if kind in ("run", "args") else [kind]
            one_of.append({"required": needed, "not": {"anyOf": [{"required": [other]} for other in others]}})
        return {**super().schema(), "oneOf": one_of}


NEVER_REPLACED: Final = frozenset({"run", "secrets", "use"})
"""Keys of a job in which ``${NAME}`` is no reference."""

NEVER_REPLACED_IN_MAPS: Final[Mapping[str, frozenset[str]]] = {"approve": frozenset({"by"})}
"""The same, of the maps that some keys have for a value. No branch's name says who may answer."""

DECIDED_EARLY: Final = frozenset({"when", "matrix"})
"""Keys that are decided before any job has run: no export is known."""

WITHOUT_EXPORTS: Final = DECIDED_EARLY | {"concurrency"}
"""Those, and what is settled when the run is planned."""

JOB_SHAPE: Final = _Job("a job", Job, JOB)
_DEFAULT_KEYS: Final = {name: key for name, key in JOB.items() if name not in (*KINDS, "with", "needs")}
DEFAULTS: Final[Fields[dict[str, Any]]] = Fields("`defaults`", dict, _DEFAULT_KEYS)
