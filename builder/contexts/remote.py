"""Build contexts from elsewhere: a git repository, or a URL of a tar or of a Dockerfile."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from builder.contexts.context import MAX_DOCKERFILE_BYTES, Context
from builder.contexts.sniffing import looks_like_a_tar
from builder.errors import ContextError
from builder.remotes.access import Remote
from builder.remotes.git import Git
from builder.remotes.giturls import GitReference, is_http_url, parse_git, redacted
from builder.remotes.http import HttpFiles
from core.files import storage_errors
from core.gobool import parse_bool

_KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
_FILE_NAME = "context"  # what BuildKit calls a Dockerfile that is the whole context
_HEAD_BYTES = 512


def is_remote(context: str) -> bool:
    """Whether a context is something to fetch: a URL, or a git repository."""
    return is_http_url(context) or parse_git(context, context=True) is not None


def fetch_context(text: str, scratch: Path, remote: Remote) -> tuple[Context, bytes | None]:
    """Fetch ``text``. Returns the context, and the Dockerfile where the URL is that of a Dockerfile.

    scratch: a directory of the caller's that receives the files.
    Raises FetchError, InvalidUrlError, ContextError,
    BuildCancelledError.
    """
    directory = Path(tempfile.mkdtemp(prefix="context-", dir=scratch))
    try:
        reference = parse_git(text, context=True)
        if reference is not None:
            return _clone(reference, text, directory, remote), None
        return _download(text, directory, remote)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _clone(reference: GitReference, text: str, directory: Path, remote: Remote) -> Context:
    keep = bool(reference.keep_git_dir) or bool(parse_bool(remote.build_args.get(_KEEP_GIT_DIR, "")))
    access = remote.access.git(remote.secrets)
    with Git(reference.remote, directory / "repository", access, remote.stopped) as git:
        found = git.find(reference.ref)
        found.check(reference)
        checkout = git.checkout(
            found,
            subdirectory=reference.subdirectory,
            keep=keep,
            submodules=reference.submodules is not False,
        )
    if reference.checksum:
        checkout.check(found)
    return Context.open_private(str(checkout.tree), redacted(text))


def _download(url: str, directory: Path, remote: Remote) -> tuple[Context, bytes | None]:
    path = directory / _FILE_NAME
    with storage_errors(f"the context {redacted(url)}"), path.open("xb+") as file:
        said = HttpFiles(remote.access.http(remote.secrets), remote.stopped).fetch(url, file)
        file.seek(0)
        if looks_like_a_tar(file.read(_HEAD_BYTES)):
            file.seek(0)
            path.unlink()
            return Context.from_tar(file, directory, redacted(url)), None
        file.seek(0)
        dockerfile = file.read(MAX_DOCKERFILE_BYTES + 1)
    if len(dockerfile) > MAX_DOCKERFILE_BYTES:
        raise ContextError(
            f"{redacted(url)} is neither a tar nor a Dockerfile: it has more than {MAX_DOCKERFILE_BYTES} bytes",
            hint="a context is a tar, plain or compressed with gzip, zstd, xz or bzip2",
        )
    path.chmod(0o600)  # COPY may take it; its mode is then that of a file by URL
    os.utime(path, (0, said.modified_at or 0))
    return Context.open_private(str(directory), redacted(url)), dockerfile
