"""The language of pipeline files: every key, what its value may look like, and what it means.

This is the one declaration. Lint reads files by it, ``shiplap ci schema`` prints it for editors, and the tables of
``docs/pipelines.md`` are made from it. Rules that take more than one value to see are ``ci.checks``'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ci import patterns
from ci.document import MappingNode, Node, Scalar
from ci.model import (
    EVENTS,
    Build,
    Directories,
    Fits,
    Image,
    ImageBuild,
    Job,
    Limits,
    Matrix,
    Need,
    Output,
    Refs,
    Retry,
    Secret,
    SourceOptions,
)  # fmt: skip
from ci.shapes import (
    Choice,
    Decimal,
    Deferred,
    Duration,
    Either,
    Fields,
    Flag,
    Key,
    ListOf,
    Made,
    MapOf,
    Reading,
    Schema,
    Shape,
    Size,
    Text,
    Unreadable,
    Whole,
    Words,
    misplaced,
)  # fmt: skip
from core.errors import ShiplapError
from core.platforms import Platform
from core.references import Reference
from dockerfile_grammar.source import Span

MAX_JOBS: Final = 256
"""Of one run, those of matrices counted one by one."""

MAX_COMBINATIONS: Final = 64
"""Of one matrix."""

JOB_NAME: Final = r"[a-z][a-z0-9_-]{0,39}"
VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,99}"


def _variable_fault(name: str) -> str | None:
    if name == "CI" or name.startswith("SHIPLAP_"):
        return f"{name} is set by Shiplap; variables called CI or SHIPLAP_… cannot be set"
    return None


def _path_fault(path: str) -> str | None:
    if path.startswith("/") or ".." in path.split("/"):
        return "a path is relative, and stays within the workspace"
    if any(part.startswith(".wh.") for part in path.split("/")):
        return "no file of a layer is called .wh.…: that is how layers say that a file is gone"
    return patterns.fault(path)


def _absolute_fault(path: str) -> str | None:
    return None if path.startswith("/") and ".." not in path.split("/") else "a path within the container begins with /"


def _reference_fault(text: str) -> str | None:
    try:
        Reference.parse(text)
    except ShiplapError as error:
        return error.message
    return None


def _platform_fault(text: str) -> str | None:
    try:
        Platform.parse(text)
    except (ShiplapError, ValueError) as error:
        return str(error)
    return None


_ANY: Final = Words()
_FILLED: Final = Words("a text that is not empty", r"[\s\S]+")
_VARIABLE: Final = Words("the name of a variable", VARIABLE, is_verbatim=True)
_SETTABLE: Final = Words("the name of a variable", VARIABLE, fault=_variable_fault, is_verbatim=True)
_PATTERN: Final = Words("a pattern", r"[\s\S]+", fault=patterns.fault)
_PATTERNS: Final = ListOf(_PATTERN, or_one=True, least=1, most=patterns.MOST)
_PATH_PATTERN: Final = Words("a pattern of files of the workspace", r"[\s\S]+", fault=_path_fault)
_ENV: Final = MapOf(_SETTABLE, _ANY, most=200)
_ARGS: Final = MapOf(_VARIABLE, _ANY, most=200)
_SECRET_NAME: Final = Words("the name of a secret", r"[A-Za-z0-9_.-]{1,100}", is_verbatim=True)
_IN_CONTEXT: Final = Words("a path of the repository", r"[\s\S]+")
_PLATFORM: Final = Words(
    "a platform, such as linux/arm64", r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?", fault=_platform_fault
)
JOB_NAME_SHAPE: Final = Words("the name of a job", JOB_NAME, is_verbatim=True)


class _History(Shape[int | None]):
    """``all``, or how many commits."""

    what = "`all`, or a number of commits"

    def __init__(self) -> None:
        self._number = Whole(0, 1_000_000)

    def read(self, node: Node, reading: Reading) -> int | None:
        if not isinstance(node, Scalar):
            raise misplaced(node, self.what, reading)
        return None if node.text == "all" else self._number.read(node, reading)

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "all"}, self._number.schema()]}


def _event(fields: Mapping[str, Key]) -> Shape[Refs]:
    return Fields("an event", Refs, fields)


_BRANCHES: Final = Key(_PATTERNS, "branches that are meant; of a pull request, the target's")
_CHANGED: Final = Key(_PATTERNS, "files of which one has to have changed")
ON: Final[dict[str, Key]] = {
    "push": Key(_event({"branches": _BRANCHES, "paths": _CHANGED}), "commits on a branch"),
    "tag": Key(_event({"tags": Key(_PATTERNS, "tags that are meant")}), "a new tag"),
    "pull_request": Key(_event({"branches": _BRANCHES, "paths": _CHANGED}), "a pull request's head"),
    "manual": Key(_event({}), "somebody asks for a run"),
    "cron": Key(None, "at certain times"),
}

_BY_DEFAULT: Final = ("push", "tag", "pull_request", "manual")
_ON_NAMES: Final = Choice(*_BY_DEFAULT)


def _all_of(names: tuple[str, ...]) -> Mapping[str, Refs]:
    return {name: Refs() for name in names}


EVERYTHING: Final[Mapping[str, Refs]] = _all_of(_BY_DEFAULT)
"""What a pipeline without ``on`` listens to."""

_ON: Final = Either(
    scalar=Made(_ON_NAMES, lambda name: _all_of((name,))),
    sequence=Made(ListOf(_ON_NAMES, least=1), _all_of),
    mapping=Fields("`on`", dict, ON),
)


SOURCE: Final[dict[str, Key]] = {
    "history": Key(_History(), "`all` commits with their tags, the last N without tags, or 0: no `.git`"),
    "submodules": Key(Flag(), "whether submodules are fetched, too"),
    "lfs": Key(Flag(), "whether what Git LFS keeps elsewhere is fetched, too"),
}

_IMAGE_BUILD: Final[dict[str, Key]] = {
    "context": Key(_IN_CONTEXT, "the directory whose files may be copied"),
    "file": Key(_IN_CONTEXT, "the Dockerfile; without it, the context's"),
    "target": Key(_FILLED, "the stage"),
    "args": Key(_ARGS, "build arguments"),
    "secrets": Key(ListOf(_SECRET_NAME, most=50), "secrets that its RUN steps may mount"),
}
_BUILD: Final[dict[str, Key]] = {
    **_IMAGE_BUILD,
    "platforms": Key(ListOf(_PLATFORM, or_one=True, least=1, most=16), "what to build for"),
    "tags": Key(ListOf(_FILLED, or_one=True, least=1, most=50), "names of the image; without them, the project's"),
    "push": Key(Flag(), "whether the image is pushed; without, later jobs of the run have it all the same"),
    "sbom": Key(Flag(), "whether the packages in the image are listed with it"),
    "provenance": Key(Choice("min", "max", "false"), "what is said of how the image was built"),
}  # fmt: skip


def _from_path(kind: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda path: kind(context=path)


BUILD: Final = Either(scalar=Made(_IN_CONTEXT, _from_path(Build)), mapping=Fields("`build`", Build, _BUILD))
_IMAGE_OF_BUILD: Final = Either(
    scalar=Made(_IN_CONTEXT, _from_path(ImageBuild)), mapping=Fields("`build` of an image", ImageBuild, _IMAGE_BUILD)
)
IMAGE: Final = Either(
    scalar=Made(Words("the name of an image", r"\S+", fault=_reference_fault), lambda name: Image(reference=name)),
    mapping=Fields(
        "`image`", Image,
        {"build": Key(_IMAGE_OF_BUILD, "a Dockerfile of the repository"),
         "job": Key(JOB_NAME_SHAPE, "a `build` job of this pipeline, which is a need as well")},
    ),
)  # fmt: skip


def _need(text: Text) -> Need:
    return Need(text.removesuffix("?"), text.endswith("?"), text)


NEEDS: Final = ListOf(
    Made(Words("the name of a job", rf"{JOB_NAME}(?: \([^()]*\))?\??"), _need), or_one=True, most=MAX_JOBS
)

_WHEN: Final = Fields("`when`", Fits, {
    "event": Key(ListOf(Choice(*EVENTS), or_one=True, least=1), "what the run is of"),
    "branch": Key(_PATTERNS, "the branch that is run; of a pull request, its own"),
    "target": Key(_PATTERNS, "the branch that a pull request is to go into"),
    "tag": Key(_PATTERNS, "the tag"),
    "paths": Key(_PATTERNS, "files of which one has to have changed"),
    "fork": Key(Flag(), "whether the commit comes from a fork"),
    "matrix": Key(MapOf(_VARIABLE, ListOf(_ANY, or_one=True, least=1)), "values of the matrix that are meant"),
    "params": Key(None, "values of parameters"),
})  # fmt: skip

_AXIS_NAME: Final = r"[A-Z][A-Z0-9_]{0,49}"
_AXIS: Final = Words("a name in capitals", _AXIS_NAME, fault=_variable_fault, is_verbatim=True)
_COMBINATION: Final = MapOf(_AXIS, _ANY)
_VALUES: Final = Either(
    sequence=ListOf(_ANY, least=1, most=MAX_COMBINATIONS),
    mapping=Fields("a list of the matrix", Directories, {
        "directories": Key(_PATTERN, "one value for each directory that fits", "pattern", is_required=True),
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
                    shape = self.keys[name.text].shape
                    assert shape is not None
                    options[name.text] = shape.read(value, reading)
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
        properties = {
            name: {"description": key.about, **key.shape.schema()} for name, key in self.keys.items() if key.shape
        }
        return {
            "type": "object", "properties": properties, "minProperties": 1, "additionalProperties": False,
            "patternProperties": {f"^{_AXIS_NAME}$": _VALUES.schema()},
        }  # fmt: skip


_SECRET: Final = Either(
    scalar=Made(Words("the name of a secret", VARIABLE, is_verbatim=True), Secret),
    mapping=Fields("a secret", Secret, {
        "name": Key(_SECRET_NAME, "its name", is_required=True),
        "as": Key(_SETTABLE, "the variable that has its value", "variable"),
        "file": Key(Words("a path", fault=_absolute_fault, is_verbatim=True), "the file that has its value"),
        "optional": Key(Flag(), "whether the job runs without it"),
    }),
)  # fmt: skip

_OUTPUT: Final = Either(
    scalar=Made(_PATH_PATTERN, lambda path: Output(path)),
    mapping=Fields("an output", Output, {
        "path": Key(_PATH_PATTERN, "what is kept of the workspace", is_required=True),
        "into": Key(_PATH_PATTERN, "the directory in which later jobs find it"),
        "optional": Key(Flag(), "whether there may be no such file"),
        "name": Key(None, "for people, by this name"),
        "preview": Key(None, "a mark at the commit that opens it"),
        "on": Key(None, "for people, also of failures"),
        "keep": Key(None, "how long it is kept for people"),
    }),
)  # fmt: skip

RETRY: Final[dict[str, Key]] = {
    "times": Key(Whole(0, 10), "further attempts"),
    "on": Key(
        ListOf(Words("failure, timeout or an exit code", r"failure|timeout|[1-9]\d{0,2}"), or_one=True, least=1),
        "the failures that are tried again",
    ),
}
LIMITS: Final[dict[str, Key]] = {
    "memory": Key(Size(), "memory"),
    "cpus": Key(Decimal(), "processors"),
    "pids": Key(Whole(1, 4_000_000), "processes"),
    "disk": Key(Size(), "what it writes"),
    "shm": Key(Size(), "`/dev/shm`; browsers want more than 64m"),
}
_LABEL: Final = Words("a worker's label", r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,62}")

KINDS: Final = ("run", "args", "build")
"""Of which each job has exactly one."""

JOB: Final[dict[str, Key]] = {
    "run": Key(ListOf(Words("a command", r"[\s\S]*\S[\s\S]*", is_verbatim=True), or_one=True, least=1, most=200),
               "a script, or a list of them, in one shell; each is a step"),
    "args": Key(ListOf(_ANY, least=1, most=1000), "a command without a shell"),
    "build": Key(BUILD, "an image, as `shiplap build` makes it of the workspace"),
    "approve": Key(None, "a gate"),
    "use": Key(None, "the jobs of a part"),
    "with": Key(None, "a part's parameters"),
    "image": Key(IMAGE, "what it runs in"),
    "needs": Key(NEEDS, "jobs that have to succeed before; `NAME?`: if it is in this run"),
    "after": Key(Choice("success", "failure", "always"), "what has to have become of its needs"),
    "when": Key(Either(mapping=Made(_WHEN, lambda fits: (fits,)), sequence=ListOf(_WHEN, least=1, most=50)),
                "a map, or a list of maps of which one has to fit; else it is left out"),
    "matrix": Key(_Matrix(), "a job for each combination of values"),
    "env": Key(_ENV, "its variables"),
    "secrets": Key(ListOf(_SECRET, most=50), "secrets that it gets"),
    "inputs": Key(ListOf(_PATH_PATTERN, or_one=True, least=1, most=patterns.MOST),
                  "what it sees of the workspace; it is not run again while that stays as it is"),
    "outputs": Key(ListOf(_OUTPUT, or_one=True, most=200), "files that later jobs get"),
    "exports": Key(ListOf(_VARIABLE, or_one=True, most=100), "values that later jobs may read, as `${JOB.NAME}`"),
    "reports": Key(None, "results of tests"),
    "services": Key(None, "services that it uses"),
    "caches": Key(None, "directories that are kept"),
    "engine": Key(None, "a Docker engine of its own"),
    "shell": Key(_FILLED, "`sh`, `bash`, or a command that gets the script's path"),
    "user": Key(_FILLED, "the user in the container"),
    "workdir": Key(Words("a directory of the container", fault=_absolute_fault), "where its commands begin"),
    "tty": Key(Flag(), "whether output goes to a terminal"),
    "workers": Key(ListOf(_LABEL, or_one=True, most=5), "labels that a worker has to have"),
    "platform": Key(_PLATFORM, "the platform of its container"),
    "limits": Key(Fields("`limits`", Limits, LIMITS), "what it may use, within the worker's limits"),
    "network": Key(Choice("default", "none"), "`none`: nothing is reached"),
    "timeout": Key(Duration("6h"), "of an attempt", "timeout_s"),
    "grace": Key(Duration("5m"), "between SIGTERM and SIGKILL, when it is ended", "grace_s"),
    "retry": Key(Either(scalar=Made(Whole(0, 10), Retry), mapping=Fields("`retry`", Retry, RETRY)), "further attempts"),
    "may_fail": Key(Flag(), "whether its failure stops nobody"),
    "concurrency": Key(None, "how many of a group run at once"),
    "reuse": Key(Flag(), "`false`: it runs although its inputs stayed as they were"),
}  # fmt: skip

_OF_COMMANDS: Final = frozenset(
    {"image", "env", "secrets", "inputs", "outputs", "exports", "user", "workdir", "tty", "reuse"}
)
USELESS: Final[Mapping[str, frozenset[str]]] = {
    "run": frozenset(), "args": frozenset({"shell"}), "build": _OF_COMMANDS | {"shell"},
}  # fmt: skip
"""Keys for which a kind of job has no use, by the kind."""


class _Job(Fields[Job]):
    """A job: exactly one key says what it does, and the others are of use to that."""

    def read(self, node: Node, reading: Reading) -> Job:
        if isinstance(node, MappingNode):
            self._check(node, reading)
        return super().read(node, reading)

    def _check(self, node: MappingNode, reading: Reading) -> None:
        keys = {name.text: name for name, _ in node.entries}
        kinds = [name for name in (*KINDS, "approve", "use") if name in keys]
        if not kinds:
            reading.problems.error(_start(node), "a job has one of `run`, `args` and `build`: what it does")
            return
        for other in kinds[1:]:
            reading.problems.error(keys[other].span, f"a job has either `{kinds[0]}` or `{other}`")
        for name in USELESS.get(kinds[0], frozenset()) & keys.keys():
            reading.problems.error(keys[name].span, f"a job with `{kinds[0]}` has no use for `{name}`")
        if kinds[0] in ("run", "args") and "image" not in keys:
            hint = "the container's image, such as python:3.13-slim, or {build: DIRECTORY}"
            reading.problems.error(_start(node), "a job that runs something has an `image`", hint=hint)

    def schema(self) -> Schema:
        one_of = []
        for kind in KINDS:
            others = sorted(USELESS[kind] | (set(KINDS) - {kind}))
            needed = [kind] if kind == "build" else [kind, "image"]
            one_of.append({"required": needed, "not": {"anyOf": [{"required": [other]} for other in others]}})
        return {**super().schema(), "oneOf": one_of}


def _start(node: MappingNode) -> Span:
    return node.entries[0][0].span if node.entries else node.span


JOB_SHAPE: Final = _Job("a job", Job, JOB)
_DEFAULT_KEYS: Final = {
    name: key for name, key in JOB.items() if name not in (*KINDS, "approve", "use", "with", "needs")
}
DEFAULTS: Final[Fields[dict[str, Any]]] = Fields("`defaults`", dict, _DEFAULT_KEYS)

TOP: Final[dict[str, Key]] = {
    "jobs": Key(
        Deferred(MapOf(JOB_NAME_SHAPE, JOB_SHAPE, least=1, most=MAX_JOBS)), "the jobs, by name", is_required=True
    ),
    "on": Key(_ON, "what it listens to"),
    "params": Key(None, "parameters of runs by hand"),
    "env": Key(_ENV, "variables of every job"),
    "defaults": Key(Deferred(DEFAULTS), "keys for jobs that do not say otherwise"),
    "services": Key(None, "definitions of services"),
    "concurrency": Key(None, "how many runs go on at once"),
    "timeout": Key(Duration("30d"), "of a run, without the time that it waits for people", "timeout_s"),
    "stop_on_failure": Key(Flag(), "whether the first failure cancels what still runs"),
    "source": Key(Fields("`source`", SourceOptions, SOURCE), "how the commit's files come"),
    "statuses": Key(Choice("run", "jobs"), "marks at the commit: one, or one for each job beside it"),
}
PIPELINE: Final[Fields[dict[str, Any]]] = Fields("the file", dict, TOP, others="x-")
"""The whole file. What comes of it is put together by ``ci.parsing``, once the defaults are in their places."""
