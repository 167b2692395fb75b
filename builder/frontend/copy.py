"""COPY and ADD, from instruction to operation: what each source means, and from where it is copied."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from builder.frontend.planning import PlannedStep, Planning
from builder.graph.copyspec import CopySpec, heredoc_file
from builder.graph.vertices import CopyOp, CopyPart, FetchOp, GitOp, HttpOp, SourceLines, Vertex
from core.errors import ShiplapError
from core.fetchable import is_fetchable
from dockerfile_grammar import Word, ast
from dockerfile_grammar.errors import shown

if TYPE_CHECKING:
    from builder.remotes.giturls import GitReference

_FETCHED = "file"  # a fetched file's name in its layer, whatever its URL calls it
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")

_Parts: TypeAlias = tuple[tuple[CopyPart, ...], tuple[Vertex, ...]]
"""The parts of an operation, and the vertices that they name by number."""


def plan_copy(planning: Planning, copy: ast.Copy | ast.Add, lines: SourceLines) -> PlannedStep:
    """Plan one instruction of a stage. Raises DockerfileError, with the place."""
    words = tuple(planning.expand(word) for word in copy.sources)
    destination = planning.expand(copy.destination)
    spec = CopySpec(
        sources=words,
        destination=absolute_path(planning.state.config.working_dir, destination),
        heredocs=tuple((heredoc.name, _content(planning, heredoc)) for heredoc in copy.contents),
        chown=planning.expand(copy.chown) if copy.chown else "",
        chmod=planning.expand(copy.chmod) if copy.chmod else "",
        link=copy.link,
        exclude=tuple(word.text for word in copy.exclude),
    )
    if isinstance(copy, ast.Copy):
        parts, sources = _copied(planning, copy, spec)
    else:
        parts, sources = _added(planning, copy, spec, lines)
    op = CopyOp(parts, planning.request.source_date_epoch)
    return PlannedStep(op, copy.original, _created_by(copy, spec, destination), sources)


def _content(planning: Planning, heredoc: ast.Heredoc) -> bytes:
    if not heredoc_file(heredoc.name):
        raise planning.dockerfile.error(
            f"<<{shown(heredoc.name)}: a here-document is copied as a file of its name, and no file has this one",
            heredoc.span,
            hint="give it a name without slashes; directories belong to the destination: <<NAME /dir/file",
        )
    return planning.words.content(heredoc, planning.state.variables)


def _copied(planning: Planning, copy: ast.Copy, spec: CopySpec) -> _Parts:
    spec = spec._replace(parents=copy.parents)
    if copy.from_ is None:
        return (CopyPart(spec),), ()
    vertex, context = planning.source(copy.from_)
    if vertex is None:
        return (CopyPart(spec, None, context),), ()
    return (CopyPart(spec._replace(from_context=False), 0),), (vertex,)


def _added(planning: Planning, add: ast.Add, spec: CopySpec, lines: SourceLines) -> _Parts:
    """The parts of an ADD. Neighbouring context sources are one part; each source from elsewhere is a part."""
    spec = spec._replace(is_add=True)
    groups: list[tuple[FetchOp | None, list[str]]] = []
    for word, text in zip(add.sources, spec.sources, strict=True):
        remote = _remote(planning, add, word, text)
        if remote is None and groups and groups[-1][0] is None:
            groups[-1][1].append(text)
        else:
            groups.append((remote, [text]))
    if add.checksum is not None and (len(add.sources) != 1 or groups[0][0] is None):
        raise planning.dockerfile.error(
            "ADD --checksum needs exactly one source, a URL or a git repository", add.checksum.span
        )
    parts: list[CopyPart] = []
    vertices: list[Vertex] = []
    for remote, texts in groups:
        sources, named = tuple(texts), ""
        if isinstance(remote, HttpOp):
            sources, named = (f"/{remote.name}",), file_name(remote.url)
        elif remote is not None:
            sources = ("/",)
        unpack = add.unpack if add.unpack is not None else remote is None
        unpack = unpack and not isinstance(remote, GitOp)
        part = spec._replace(sources=sources, heredocs=(), extract_archives=unpack, named=named)
        if remote is None:
            parts.append(CopyPart(part))
        else:
            parts.append(CopyPart(part, len(vertices)))
            vertices.append(planning.shared.fetched(remote, lines))
    if spec.heredocs or not parts:
        parts.append(CopyPart(spec._replace(sources=())))
    return tuple(parts), tuple(vertices)


def _remote(planning: Planning, add: ast.Add, word: Word, text: str) -> FetchOp | None:
    """What is to be fetched for a source; None for a file of the context."""
    if not is_fetchable(text):
        return None
    from builder.remotes.giturls import check_url, is_http_url, parse_git

    try:
        reference = parse_git(text)
        if reference is None and is_http_url(text):
            check_url(text)
    except ShiplapError as error:
        raise planning.dockerfile.error(f"ADD: {error.message}", word.span, hint=error.hint) from None
    if reference is not None:
        return _git(planning, add, reference)
    return HttpOp(text, _FETCHED, _checksum(planning, add)) if is_http_url(text) else None


def _git(planning: Planning, add: ast.Add, reference: GitReference) -> GitOp:
    file = planning.dockerfile
    keep, checksum = add.keep_git_dir, "" if add.checksum is None else planning.expand(add.checksum)
    if keep is not None and reference.keep_git_dir not in (None, keep):
        raise file.error("ADD: --keep-git-dir and the URL's keep-git-dir do not agree", add.span)
    if checksum and not re.fullmatch("[0-9a-f]{7,64}", checksum):
        assert add.checksum is not None
        raise file.error(
            f"ADD --checksum={checksum}: a commit is named by 7 or more hexadecimal digits", add.checksum.span
        )
    if checksum and reference.checksum not in ("", checksum):
        raise file.error("ADD: --checksum and the URL's checksum do not agree", add.span)
    reference = msgspec.structs.replace(reference, checksum=checksum or reference.checksum)
    return GitOp(reference, bool(keep if keep is not None else reference.keep_git_dir))


def _checksum(planning: Planning, add: ast.Add) -> str:
    if add.checksum is None:
        return ""
    checksum = planning.expand(add.checksum)
    if not _CHECKSUM.fullmatch(checksum):
        raise planning.dockerfile.error(
            f"ADD --checksum={checksum}: not a checksum", add.checksum.span, hint="write sha256: and 64 digits"
        )
    return checksum


def _created_by(copy: ast.Copy | ast.Add, spec: CopySpec, destination: str) -> str:
    """For the history. destination: expanded, and not yet absolute."""
    words = [copy.NAME]
    words += ["--parents"] if isinstance(copy, ast.Copy) and copy.parents else []
    words += [f"--chown={spec.chown}"] if spec.chown else []
    words += [f"--chmod={spec.chmod}"] if spec.chmod else []
    words += [*spec.sources, *(f"<<{name}" for name, _ in spec.heredocs), destination]
    return " ".join(words) + " # buildkit"


def file_name(url: str) -> str:
    """The name of a file added from ``url``: the last part of the URL's path, as in BuildKit."""
    from urllib.parse import unquote, urlsplit

    name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    return name if name not in ("", ".", "..") else "__unnamed__"


def absolute_path(workdir: str, destination: str) -> str:
    """An absolute destination; a trailing slash stays, and "." means the directory itself."""
    path = posixpath.normpath(posixpath.join("/", workdir, destination))
    path = "/" + path.lstrip("/")
    is_directory = destination in ("", ".") or destination.endswith(("/", "/."))
    return path + "/" if is_directory and path != "/" else path
