"""For whom what a step leaves counts: each member of what a step is made of is in its key, or decides its class."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from builder.cacheio.classes import StepClass, StepClasses, part_takers
from builder.contexts.context import Context
from builder.graph.copyspec import CopySpec
from builder.graph.mounts import BindMount, CacheMount, RunMount, SecretMount, SshMount, TmpfsMount
from builder.graph.vertices import (
    BaseOp,
    CopyOp,
    CopyPart,
    LayerOp,
    RunFile,
    RunOp,
    SourceLines,
    Vertex,
    WorkdirOp,
    cache_key,
    op_digest,
)
from builder.remotes.access import SourceAccess
from builder.request.request import BuildRequest
from core.digests import DiffID
from core.events import StepInfo
from core.trust import COMMON, HOST, Domain, Privacy, of_branch, of_fork, of_user, protected, scoped

RUN: Final = RunOp(("/bin/sh", "-c", "make"), (("PATH", "/bin"), ("A", "1")), "/src", "1000")
SECRET: Final = SecretMount("token", "/run/secrets/token", None, required=False)
SSH: Final = SshMount("default", "/run/agent", required=False)
CACHE: Final = CacheMount("/cache", "pip", "shared", readonly=False)


@pytest.fixture
def request_(tmp_path: Path) -> Any:
    with ExitStack() as stack:
        context = stack.enter_context(Context.open_directory(str(tmp_path)))
        yield BuildRequest(b"FROM scratch\n", "Dockerfile", context, domain=protected("p"), fingerprint=fingerprint)


def fingerprint(value: bytes) -> str:
    return f"print of {value.decode()}"


def test_keys_of_common_steps_are_what_they_have_always_been() -> None:
    assert op_digest(RUN) == "7447be74cb6217412f858228fac97886652df4abbb3f7e7dd4870112a737e7d2"
    assert op_digest(WorkdirOp("/src", "0")) == "4663536c815c0c5507503b8c6e2bde736dc62f88db745f02079810c44bd8572d"
    assert (
        op_digest(CopyOp.of(CopySpec(("a",), "/b")))
        == "25a5ebbe351d4015272b98763f08dbe90baf4f2fdb244fddf884c17adb7e2be1"
    )
    key = cache_key("o", "c", "x")
    assert key == "6ccacf523d42b5c6957672b47dafef709d9fcfb23240be2590585a7d3bc8c8e9"
    assert scoped(key, COMMON) == key


# Every member is classed

IN_KEY: Final = "in the key"
BY_CONTENT: Final = "what it leads to counts by its content"
BY_MOUNT: Final = "a table of its own"
NO_EFFECT: Final = "no effect on what the step leaves"

CHANGED: Final[dict[type[msgspec.Struct], dict[str, Any]]] = {
    RunOp: {
        "args": ("/bin/sh", "-c", "true"), "env": (("PATH", "/usr/bin"),), "cwd": "/", "user": "0", "network": "none",
        "extra_hosts": (("a", "10.0.0.1"),), "files": (RunFile("/x", b"#!", 0o755),), "insecure": True,
        "hostname": "there", "untracked_env": Privacy.DOMAIN, "mounts": BY_MOUNT,
        "arg_names": NO_EFFECT, "foreign": BY_CONTENT,
    },
    CopyOp: {"parts": (CopyPart(CopySpec(("b",), "/b")),), "timestamp": 7},
    WorkdirOp: {"path": "/b", "user": "1", "timestamp": 7},
    CopyPart: {"spec": CopySpec(("b",), "/b"), "source": BY_CONTENT, "context": BY_CONTENT},
    BindMount: {"target": "/b", "readonly": True, "source": BY_CONTENT, "path": BY_CONTENT},
    TmpfsMount: {"target": "/b", "size_bytes": 7},
    CacheMount: {
        "target": "/b", "id": "npm", "readonly": True, "mode": 0o700, "uid": 7, "gid": 7, "sharing": NO_EFFECT,
        "source": BY_CONTENT, "path": BY_CONTENT, "is_copy": BY_CONTENT,
    },
    SecretMount: {"id": "b", "target": "/b", "env": "B", "mode": 0o444, "uid": 7, "gid": 7, "required": NO_EFFECT},
    SshMount: {"id": "b", "target": "/b", "mode": 0o666, "uid": 7, "gid": 7, "required": NO_EFFECT},
}  # fmt: skip
"""A member's other value, which changes the key; or why it need not, or what the member makes of the step."""

EXAMPLES: Final[dict[type[msgspec.Struct], Callable[[Any], LayerOp]]] = {
    RunOp: lambda changed: changed or RUN,
    CopyOp: lambda changed: changed or CopyOp.of(CopySpec(("a",), "/b")),
    WorkdirOp: lambda changed: changed or WorkdirOp("/src", "0"),
    CopyPart: lambda changed: CopyOp((changed or CopyPart(CopySpec(("a",), "/b")),)),
    BindMount: lambda changed: _with(changed or BindMount("/a", 0, "/", readonly=False)),
    TmpfsMount: lambda changed: _with(changed or TmpfsMount("/a", 0)),
    CacheMount: lambda changed: _with(changed or CACHE),
    SecretMount: lambda changed: _with(changed or SECRET),
    SshMount: lambda changed: _with(changed or SSH),
}


def _with(mount: RunMount) -> RunOp:
    return msgspec.structs.replace(RUN, mounts=(mount,))


def _example(kind: type[msgspec.Struct]) -> Any:
    op = EXAMPLES[kind](None)
    if isinstance(op, kind):
        return op
    return op.parts[0] if isinstance(op, CopyOp) else op.mounts[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", CHANGED)
def test_every_member_of_an_operation_is_in_the_key_or_decides_the_class(kind: type[msgspec.Struct]) -> None:
    assert set(CHANGED[kind]) == set(kind.__struct_fields__), "a new member has to be classed: see docs/trust.md"
    make, example = EXAMPLES[kind], _example(kind)
    for member, other in CHANGED[kind].items():
        if isinstance(other, str) and other in (NO_EFFECT, BY_CONTENT, BY_MOUNT):
            continue
        if isinstance(other, Privacy):
            continue
        changed = make(msgspec.structs.replace(example, **{member: other}))
        assert op_digest(changed) != op_digest(make(None)), member


COPY_MEMBERS: Final[dict[str, Any]] = {
    "sources": ("b",), "destination": "/c", "chown": "1", "chmod": "644", "heredocs": (("a", b""),),
    "extract_archives": True, "link": True, "parents": True, "exclude": ("x",), "from_context": False, "is_add": True,
    "named": "n",
}  # fmt: skip


def test_every_member_of_a_copy_is_in_the_key() -> None:
    spec = CopySpec(("a",), "/b")
    assert set(COPY_MEMBERS) == set(CopySpec._fields), "a new member has to be classed: see docs/trust.md"
    for member, other in COPY_MEMBERS.items():
        assert op_digest(CopyOp.of(spec._replace(**{member: other}))) != op_digest(CopyOp.of(spec)), member


REQUEST_MEMBERS: Final = {
    "dockerfile": "in operations", "dockerfile_name": "messages", "context": "by content", "outputs": "not of steps",
    "target": "which steps", "build_args": "in operations; proxies decide the class", "labels": "config",
    "default_labels": "config",
    "no_cache": "which steps run", "pull": "bases, by content", "platforms": "bases, by content",
    "network": "in operations", "add_hosts": "in operations", "source_date_epoch": "in operations",
    "secrets": "decide the class", "withheld": "messages",
    "access": "agents decide the class; what is fetched counts by content",
    "named_contexts": "by content", "allow": "only allows", "limits": "the host's, the same for all runs",
    "no_cache_stages": "which steps run", "cache_from": "imports are the domain's", "cache_to": "not of steps",
    "lineage": "what is told", "hold_failures": "failures", "attest": "not of steps", "domain": "decides the scope",
    "context_privacy": "decides the class",
    "own_secrets": "decide the class", "fingerprint": "in the facts", "shared_cache_mounts": "the domain's anyway",
}  # fmt: skip


def test_every_member_of_a_request_is_classed() -> None:
    assert set(REQUEST_MEMBERS) == set(BuildRequest._fields), "a new member has to be classed: see docs/trust.md"


# What takes part by itself


def test_step_of_which_the_key_names_all_is_common(request_: BuildRequest) -> None:
    for op in (RUN, WorkdirOp("/", "0"), CopyOp.of(CopySpec(("a",), "/b")), _with(TmpfsMount("/a", 0))):
        assert part_takers(op, request_) == (Privacy.COMMON, ())


def test_stored_secret_makes_a_step_the_project_s_and_counts_by_its_value(request_: BuildRequest) -> None:
    stored = request_._replace(secrets={"token": b"one"})
    assert part_takers(_with(SECRET), stored) == (Privacy.PROJECT, (("secret", "token", "print of one"),))
    other = request_._replace(secrets={"token": b"two"})
    assert part_takers(_with(SECRET), other)[1] != part_takers(_with(SECRET), stored)[1]


def test_secret_that_came_with_the_request_makes_a_step_the_domain_s(request_: BuildRequest) -> None:
    sent = request_._replace(secrets={"token": b"one"}, own_secrets=frozenset({"token"}))
    assert part_takers(_with(SECRET), sent)[0] is Privacy.DOMAIN


def test_secret_that_is_missing_leaves_a_step_common_under_a_key_of_its_own(request_: BuildRequest) -> None:
    privacy, facts = part_takers(_with(SECRET), request_)
    assert (privacy, facts) == (Privacy.COMMON, (("secret", "token", "missing"),))
    keys = {
        op_digest(_with(SECRET)),
        op_digest(_with(SECRET), facts),
        op_digest(_with(SECRET), part_takers(_with(SECRET), request_._replace(secrets={"token": b"missing"}))[1]),
    }
    assert len(keys) == 3


def test_at_the_host_a_secret_counts_by_presence(request_: BuildRequest) -> None:
    host = request_._replace(domain=HOST, fingerprint=None)
    one, two = (part_takers(_with(SECRET), host._replace(secrets={"token": value})) for value in (b"one", b"two"))
    assert one == two == (Privacy.PROJECT, (("secret", "token", "given"),))


def test_ssh_agent_makes_a_step_the_project_s(request_: BuildRequest) -> None:
    given = request_._replace(access=SourceAccess(ssh={"default": object()}))  # type: ignore[dict-item]  # an agent
    assert part_takers(_with(SSH), given) == (Privacy.PROJECT, (("ssh", "default", "given"),))
    assert part_takers(_with(SSH), request_) == (Privacy.COMMON, (("ssh", "default", "missing"),))


def test_what_is_copied_from_a_context_that_a_deploy_key_opened_is_the_project_s(request_: BuildRequest) -> None:
    opened = request_._replace(context_privacy=Privacy.PROJECT)
    copied, named = CopyOp.of(CopySpec(("a",), "/b")), CopyOp.of(CopySpec(("a",), "/b"), "named")
    from_stage = CopyOp((CopyPart(CopySpec(("a",), "/b"), 0), CopyPart(CopySpec(("a",), "/b"))))
    found = [part_takers(op, opened)[0] for op in (copied, named, from_stage, RUN)]
    assert found == [Privacy.PROJECT, Privacy.COMMON, Privacy.PROJECT, Privacy.COMMON]
    assert part_takers(copied, request_) == (Privacy.COMMON, ())


def test_cache_mount_and_proxies_make_a_step_the_domain_s(request_: BuildRequest) -> None:
    assert part_takers(_with(CACHE), request_)[0] is Privacy.DOMAIN
    proxied = [msgspec.structs.replace(RUN, untracked_env=(("http_proxy", name),)) for name in ("a", "b")]
    assert [part_takers(op, request_)[0] for op in proxied] == [Privacy.DOMAIN] * 2
    assert part_takers(proxied[0], request_) != part_takers(proxied[1], request_)


def test_the_most_private_thing_of_a_step_counts(request_: BuildRequest) -> None:
    op = msgspec.structs.replace(RUN, mounts=(SECRET, CACHE))
    assert part_takers(op, request_._replace(secrets={"token": b"one"}))[0] is Privacy.DOMAIN


# What takes part below, and where it is put


def vertex(op: Any, below: Vertex | None = None, *sources: Vertex) -> Vertex:
    return Vertex(op, StepInfo(1, "step"), SourceLines(1, 1), below, sources)


def classed(request: BuildRequest, *vertices: Vertex) -> list[StepClass]:
    classes = StepClasses(request, lambda image: Privacy.PROJECT if image == PRIVATE.image else Privacy.COMMON)
    found = []
    for each in vertices:
        if isinstance(each.op, BaseOp):
            classes.bring_base(each, each.op)
        else:
            found.append(classes.of(each, each.op))  # type: ignore[arg-type]  # nothing is fetched here
    return found


BASE: Final = BaseOp((DiffID("sha256:" + "0" * 64),))
PRIVATE: Final = msgspec.structs.replace(BASE, image="sha256:" + "1" * 64)
COPY: Final = CopyOp.of(CopySpec(("a",), "/b"))


def test_what_is_on_something_private_or_reads_from_it_is_as_private(request_: BuildRequest) -> None:
    base, private = vertex(BASE), vertex(PRIVATE)
    common = vertex(RUN, base)
    cached = vertex(_with(CACHE), base)
    on_private, from_private = vertex(RUN, private), vertex(COPY, common, private)
    above, from_cached = vertex(COPY, from_private), vertex(COPY, common, cached)
    steps = classed(request_, base, private, common, cached, on_private, from_private, above, from_cached)
    p, own = "project p", "project p/protected"
    assert [step.writes for step in steps] == [COMMON, own, p, p, p, own]


@pytest.mark.parametrize(
    ("domain", "writes", "asks"),
    [
        (HOST, (COMMON, "host", "host"), ((COMMON, "host"), ("host",), ("host",))),
        (
            protected("p"),
            (COMMON, "project p", "project p/protected"),
            ((COMMON, "project p/protected"), ("project p", "project p/protected"), ("project p/protected",)),
        ),
        (
            of_branch("p", "b"),
            (COMMON, "project p", "project p/branch b"),
            (
                (COMMON, "project p/branch b", "project p/protected"),
                ("project p", "project p/branch b", "project p/protected"),
                ("project p/branch b", "project p/protected"),
            ),
        ),
        (
            of_user("p", "ann"),
            (COMMON, "project p", "project p/by ann"),
            (
                (COMMON, "project p/by ann", "project p/protected"),
                ("project p", "project p/by ann", "project p/protected"),
                ("project p/by ann", "project p/protected"),
            ),
        ),
        (
            of_fork("p", 7),
            ("project p/fork 7",) * 3,
            (("project p/fork 7", COMMON), ("project p/fork 7",), ("project p/fork 7",)),
        ),
    ],
)
def test_where_each_domain_puts_and_looks_for_what_steps_leave(
    domain: Domain, writes: tuple[str, ...], asks: tuple[tuple[str, ...], ...]
) -> None:
    assert tuple(domain.writes(privacy) for privacy in Privacy) == writes
    assert tuple(domain.asks(privacy) for privacy in Privacy) == asks
    for found in asks:
        assert set(found) <= set(domain.reads())
