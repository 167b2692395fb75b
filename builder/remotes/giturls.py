"""Git URLs as BuildKit reads them: ``https://HOST/REPO.git#REF:DIRECTORY``, ``ssh://``, ``git://``, ``user@host:path``.

Source: moby/buildkit, util/gitutil/git_url.go and frontend/dockerfile/dfgitutil/git_ref.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

import msgspec

from builder.errors import InvalidUrlError
from core.fetchable import PORTS, USER_AT_HOST, is_short
from core.gobool import parse_bool

_SCHEME: Final = re.compile(r"([A-Za-z0-9]+)://")
_SCP: Final = re.compile(USER_AT_HOST + r"(?P<path>[^?#]*)(?P<rest>.*)")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # no option of ssh
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*")
_CHECKSUM: Final = re.compile(r"[0-9a-f]{7,64}")
_FORMS: Final = "write https://HOST/REPOSITORY.git, ssh://USER@HOST/PATH or USER@HOST:PATH"


class GitRemote(msgspec.Struct, frozen=True):
    """The address of a repository.

    url: as git gets it, without credentials.
    credentials: ``user:password``, or empty.
    """

    url: str
    scheme: str
    host: str
    port: int
    credentials: str = ""


class GitReference(msgspec.Struct, frozen=True):
    """What a git URL means.

    ref: branch, tag, commit, or a full name like ``refs/pull/1/head``; empty for the default branch.
    subdirectory: of the tree; empty for all of it.
    checksum: the first digits of the commit's hash; empty for any.
    keep_git_dir, submodules: None when the URL does not say.
    """

    remote: GitRemote
    ref: str = ""
    subdirectory: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None


def is_http_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def check_url(url: str) -> None:
    """Raises InvalidUrlError unless ``url`` is an http URL."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in unquote(url)):
        raise InvalidUrlError(f"invalid URL {redacted(url)[:200]!r}", hint="write https://HOST/PATH")


def parse_git(text: str, *, context: bool = False) -> GitReference | None:
    """The reference in ``text``; None when it is something else: a path, or the URL of a file.

    An http URL is a repository's when its path ends in ``.git``. context: ``github.com/…`` means a repository too.
    Raises InvalidUrlError for a git URL that is malformed.
    """
    if (scp := _SCP.fullmatch(text)) and not _SCHEME.match(text):
        rest = urlsplit(scp["rest"])
        return _with_query(_with_fragment(_scp_remote(scp), rest.fragment, text), rest.query, text)
    short = context and is_short(text)
    if short:
        text = f"https://{text}"
    elif not (scheme := _SCHEME.match(text)) or scheme[1].lower() not in PORTS:
        return None
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidUrlError(f"invalid URL {redacted(text)}: {error}") from error
    if parts.scheme in ("http", "https") and not short and not parts.path.endswith(".git"):
        return None
    return _with_query(_with_fragment(check_remote(parts), parts.fragment, text), parts.query, text)


def _scp_remote(found: re.Match[str]) -> GitRemote:
    """The remote of ``USER@HOST:PATH``. It is kept: its path starts at the user's home, an ssh:// URL's at /."""
    path = found["path"]
    if not path or any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in path):
        raise InvalidUrlError(f"invalid git URL {found[0][:200]!r}", hint=_FORMS)
    return GitRemote(f"{found['user']}@{found['host']}:{path}", "ssh", found["host"], PORTS["ssh"])


def parse_remote(url: str) -> GitRemote:
    """The remote of a URL or ``USER@HOST:PATH`` that has only an address. Raises InvalidUrlError."""
    if (scp := _SCP.fullmatch(url)) and not _SCHEME.match(url):
        return _scp_remote(scp)
    try:
        return check_remote(urlsplit(url))
    except ValueError as error:
        raise InvalidUrlError(f"invalid git URL {redacted(url)[:200]!r}: {error}") from error


def check_remote(parts: SplitResult) -> GitRemote:
    """The remote of a split URL; its query and fragment are ignored. Raises InvalidUrlError."""
    shown = redacted(urlunsplit(parts))[:200]
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidUrlError(f"invalid git URL {shown!r}: {error}") from error
    if parts.scheme not in PORTS:
        raise InvalidUrlError(f"git URLs of kind {parts.scheme or 'path'!r} are not fetched", hint=_FORMS)
    user, host = parts.username, parts.hostname or ""
    is_ssh = parts.scheme == "ssh"
    if is_ssh and (parts.password is not None or (user is not None and not _USER.fullmatch(user))):
        raise InvalidUrlError(f"invalid user in git URL {shown!r}", hint="ssh takes keys, and no password")
    if not _HOST.fullmatch(host) or not parts.path.strip("/"):
        raise InvalidUrlError(f"invalid git URL {shown!r}", hint=_FORMS)
    if any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in urlunsplit(parts)):
        raise InvalidUrlError("a git URL has no spaces and no control characters")
    location = f"[{host}]" if ":" in host else host
    if port is not None:
        location += f":{port}"
    credentials = ""
    if is_ssh and user is not None:
        location = f"{user}@{location}"
    elif user is not None:
        credentials = f"{unquote(user)}:{unquote(parts.password or '')}"
    url = urlunsplit((parts.scheme, location, parts.path, "", ""))
    return GitRemote(url, parts.scheme, host, port or PORTS[parts.scheme], credentials)


def check_ref(ref: str) -> None:
    """Raises InvalidUrlError when ``ref`` cannot be a branch, tag or commit, such as an option or a range."""
    if ref and not is_ref(ref):
        raise InvalidUrlError(f"invalid git ref {ref[:100]!r}", hint="a branch, a tag, or a whole commit hash")


def is_ref(text: str) -> bool:
    """Whether it can be the name of a branch, a tag or a commit."""
    return _REF.fullmatch(text) is not None and ".." not in text


def redacted(url: str) -> str:
    """The URL without the name, password or token before its host, for messages. (ssh names a user, and no secret.)"""
    return re.sub(r"\b(https?://)[^/@\s]+@", r"\1xxxxx@", url)


def _with_fragment(remote: GitRemote, fragment: str, text: str) -> GitReference:
    """``#REF:DIRECTORY``, or ``##ref=REF,subdir=DIRECTORY,commit=HASH``."""
    if not fragment.startswith("#"):
        ref, _, subdirectory = fragment.partition(":")
        return _checked(GitReference(remote, unquote(ref), unquote(subdirectory)))
    values: dict[str, str] = {}
    for field in fragment[1:].split(","):
        key, equals, value = field.partition("=")
        if not equals or key.lower() not in ("ref", "commit", "subdir"):
            raise InvalidUrlError(f"{redacted(text)}: unexpected {field!r}", hint="it can be ref=, commit= and subdir=")
        values[key.lower()] = value
    ref, commit = values.get("ref", ""), values.get("commit", "")
    return _checked(GitReference(remote, ref or commit, values.get("subdir", ""), commit))


def _with_query(found: GitReference, query: str, text: str) -> GitReference:
    """``?ref=…&tag=…&branch=…&subdir=…&checksum=…&commit=…&keep-git-dir&submodules=false``."""
    given = _single_values(query, text)
    if not given:
        return found
    ref = _agreed("ref", found.ref, given.get("ref", ""), text)
    if given.get("tag") and given.get("branch"):
        raise InvalidUrlError(f"{redacted(text)}: both tag and branch are given", hint="give one of them")
    for key, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name := given.get(key):
            ref = _agreed("ref", ref, name if name.startswith(prefix) else prefix + name, text)
    subdirectory = _agreed("subdir", found.subdirectory, given.get("subdir", ""), text)
    checksum = given.get("checksum") or given.get("commit") or found.checksum
    return _checked(
        GitReference(
            found.remote,
            ref or checksum,
            subdirectory,
            checksum,
            _flag(given, "keep-git-dir", text),
            _flag(given, "submodules", text),
        )
    )


def _single_values(query: str, text: str) -> Mapping[str, str]:
    known = ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules")
    given: dict[str, str] = {}
    for key, values in parse_qs(query, keep_blank_values=True).items():
        if key not in known:
            raise InvalidUrlError(f"{redacted(text)}: unexpected query {key!r}", hint=f"it can be {', '.join(known)}")
        if len(values) > 1:
            raise InvalidUrlError(f"{redacted(text)}: query {key!r} has several values")
        if not values[0] and key not in ("keep-git-dir", "submodules"):
            raise InvalidUrlError(f"{redacted(text)}: query {key!r} has no value")
        given[key] = values[0]
    return given


def _agreed(what: str, first: str, second: str, text: str) -> str:
    if first and second and first != second:
        raise InvalidUrlError(f"{redacted(text)}: {what} is given twice: {first!r} and {second!r}")
    return first or second


def _flag(given: Mapping[str, str], key: str, text: str) -> bool | None:
    value = given.get(key)
    if value is None:
        return None
    said = parse_bool(value) if value else True
    if said is None:
        raise InvalidUrlError(f"{redacted(text)}: invalid value for {key}: {value!r}", hint="write true or false")
    return said


def _checked(found: GitReference) -> GitReference:
    check_ref(found.ref)
    if found.checksum and not _CHECKSUM.fullmatch(found.checksum):
        raise InvalidUrlError(
            f"invalid checksum {found.checksum[:100]!r}", hint="the first 7 or more hexadecimal digits of a commit"
        )
    return found
