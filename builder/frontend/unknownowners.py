"""The check UnknownOwner: ``--chown``, or the USER of a WORKDIR, has a name that the image does not have.

BuildKit takes such a name for root, and so do we. A typo would then silently give files to root, hence the check. A
build knows for sure, once the step has run (``finding_of``). Without a build, the check warns only where nothing before
the instruction can have changed the accounts of the base image (``find_unknown_owners``).
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from builder.contexts.keys import SCRATCH
from builder.copying.owners import MAX_ACCOUNTS_BYTES, UnknownName, account_entries, nearest_name
from builder.frontend.checks import CheckFinding, check_options
from builder.request.request import BuildRequest
from core.digests import DiffID
from core.suggestions import aside, did_you_mean
from dockerfile_grammar import Dockerfile, Instruction, ast
from dockerfile_grammar.checks import Subject, skipping
from dockerfile_grammar.scopes import Scopes
from images.flatten import flatten
from images.store import Store
from images.tarheaders import FILE
from images.tarreader import Content


class _OwnerRule(NamedTuple):
    name: str = "UnknownOwner"
    description: str = "Users and groups that own files should be in the image"
    anchor: str = "unknown-owner"


OWNER_RULE: Final = _OwnerRule()


class Accounts(NamedTuple):
    """The names of an image's users and groups."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


AccountsOf: TypeAlias = Callable[[str], Accounts | None]
"""Gives the accounts of a base image by its name in FROM, expanded; None where they are not known."""

_USERS: Final = "/etc/passwd"
_GROUPS: Final = "/etc/group"


def accounts_in(store: Store, diff_ids: Sequence[DiffID]) -> Accounts | None:
    """The names in an image's own files; None where layers are not here, or the files are no regular ones.

    Raises InvalidLayerError.
    """
    if store.layers.missing(diff_ids):
        return None
    texts: dict[bytes, str] = {}
    with contextlib.ExitStack() as stack:
        for merged in flatten([stack.enter_context(store.layers.open(diff_id)) for diff_id in diff_ids]):
            name, size = merged.entry.name, merged.entry.size
            if name in (_USERS[1:].encode(), _GROUPS[1:].encode()):
                if merged.entry.kind != FILE or size > MAX_ACCOUNTS_BYTES:
                    return None
                texts[name] = Content(merged.chunks, size).read(size).decode("utf-8", "surrogateescape")

    def names(path: str) -> tuple[str, ...]:
        return tuple(fields[0] for fields in account_entries(texts.get(path[1:].encode(), "")))

    return Accounts(names(_USERS), names(_GROUPS))


def check_owners(
    dockerfile: Dockerfile, request: BuildRequest, layers: Mapping[str, Sequence[DiffID]], store: Store
) -> list[CheckFinding]:
    """The findings about owners that need no build. layers: of base images, by name. Raises InvalidLayerError."""
    is_skipped = skipping(dockerfile, check_options(dockerfile, request.build_args))

    def accounts_of(base: str) -> Accounts | None:
        return accounts_in(store, layers[base]) if base in layers else None

    found = find_unknown_owners(dockerfile, request.build_args, accounts_of)
    return [finding for finding in found if not is_skipped(OWNER_RULE.name, finding.line)]


def finding_of(unknown: UnknownName, line: int) -> CheckFinding:
    """The finding about a name."""
    near = aside(did_you_mean([unknown.near] if unknown.near else []))
    stands_in = "root" if unknown.kind == "user" else "the user's own group"
    detail = f"{unknown.written}: the image has no {unknown.kind} '{unknown.name}', {stands_in} is taken instead{near}"
    return CheckFinding(OWNER_RULE.name, OWNER_RULE.description, OWNER_RULE.anchor, detail, line, line)


def naming_line(dockerfile: Dockerfile, unknown: UnknownName, line: int) -> int:
    """The line of the instruction that names the owner: for the step of a WORKDIR at ``line``, that of its USER.

    It is ``line`` itself for ``--chown``, and where the USER came with the base image or from another stage.
    """
    if not unknown.written.startswith("USER "):
        return line
    for stage in dockerfile.stages:
        before = [item for item in stage.instructions if item.start_line <= line]
        if stage.instructions and before and line <= stage.instructions[-1].end_line:
            users = [item for item in before if isinstance(item, ast.User)]
            return users[-1].start_line if users else line
    return line


def find_unknown_owners(
    dockerfile: Dockerfile, build_args: Mapping[str, str], accounts_of: AccountsOf
) -> list[CheckFinding]:
    """The findings that need no build, in the order of the file."""
    scopes = Subject(dockerfile, build_args).scopes()
    expanded = {(id(use.instruction), id(use.word)): use.expansion.text for use in scopes.uses()}
    ends: dict[str, Accounts | None] = {}
    found: list[CheckFinding] = []
    for stage in dockerfile.stages:
        known = _at_the_beginning(stage, scopes, ends, accounts_of)
        user: tuple[int, str] | None = None
        for item in stage.instructions:
            if isinstance(item, ast.User):
                user = item.start_line, expanded[id(item), id(item.user)]
            if known is not None:
                found += _of_instruction(item, known, user, expanded)
            if _may_change_accounts(item, expanded):
                known = None
        if stage.name is not None:
            ends[stage.name] = known
    return found


def _at_the_beginning(
    stage: ast.Stage, scopes: Scopes, ends: Mapping[str, Accounts | None], accounts_of: AccountsOf
) -> Accounts | None:
    base = scopes.expand(stage.base, scopes.global_env).text
    if base.lower() in ends:
        return ends[base.lower()]
    return None if base == SCRATCH else accounts_of(base)  # on scratch, a name is an error or root


def _of_instruction(
    item: Instruction, known: Accounts, user: tuple[int, str] | None, expanded: Mapping[tuple[int, int], str]
) -> Iterator[CheckFinding]:
    if isinstance(item, ast.Copy | ast.Add) and item.chown is not None and not item.link:
        yield from _unknown("--chown=", expanded[id(item), id(item.chown)], known, item.start_line)
    elif isinstance(item, ast.Workdir) and user is not None:
        yield from _unknown("USER ", user[1], known, user[0])


def _unknown(flag: str, text: str, known: Accounts, line: int) -> Iterator[CheckFinding]:
    user, _, group = text.partition(":")
    if user and not user.isdecimal() and user not in known.users:
        yield finding_of(UnknownName("user", user, flag + text, nearest_name(user, list(known.users))), line)
    if group and not group.isdecimal() and group not in known.groups:
        yield finding_of(UnknownName("group", group, flag + text, nearest_name(group, list(known.groups))), line)


def _may_change_accounts(item: Instruction, expanded: Mapping[tuple[int, int], str]) -> bool:
    """Whether an instruction may change the image's users or groups."""
    if isinstance(item, ast.Run | ast.Onbuild):
        return True
    if not isinstance(item, ast.Copy | ast.Add):
        return False
    destination = expanded[id(item), id(item.destination)]
    if not destination.startswith("/"):
        return True
    path = posixpath.normpath(destination).rstrip("/")
    return path.startswith("/etc/") or any(f"{file}/".startswith(f"{path}/") for file in (_USERS, _GROUPS))
