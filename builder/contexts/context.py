"""The build context: a directory, or a tar on standard input, seen through its ignore patterns."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from builder.errors import ContextError
from core.closing import Closing

if TYPE_CHECKING:
    from builder.contexts.filetree import SourceTree
    from dockerfile_grammar.ignore import IgnorePatterns
    from images.tarwriter import SupportsRead

_MAX_STDIN_BYTES: Final = 64 << 30
MAX_DOCKERFILE_BYTES: Final = 16 << 20
"""No Dockerfile, and no ignore file, is bigger."""


class Context(Closing):
    """An opened directory. It stays the same directory even when its path is renamed or replaced.

    fd: a descriptor of the directory, owned by this object.
    name: for messages, as the user wrote it.
    key: identifies the directory in the store's memos; empty for a context that is never seen again.
    is_private: the directory was made for this build alone, and nobody writes to it.
    contents: of a private directory, the sha256 of each regular file by path, where known. See ``KnownTree``.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        *,
        ignore: IgnorePatterns | None = None,
        key: str = "",
        is_private: bool = False,
        contents: Mapping[str, bytes] | None = None,
    ) -> None:
        self.fd = fd
        self.name = name
        self.key = key
        self.contents = contents
        self._is_private = is_private
        self._ignore = ignore

    @classmethod
    def open_directory(cls, path: str, ignore: IgnorePatterns | None = None) -> Self:
        """Open the directory ``path``. Raises ContextError when there is none, or it cannot be read."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ContextError(f"the build context {path!r} does not exist", hint=_where(path)) from error
        except NotADirectoryError as error:
            raise ContextError(
                f"the build context {path!r} is not a directory",
                hint="give the directory that the Dockerfile copies from; a Dockerfile elsewhere is named with -f",
            ) from error
        except OSError as error:
            raise ContextError(
                f"cannot open the build context {path!r}: {error.strerror}",
                hint="build as a user who may read it",
            ) from error
        return cls(fd, path, ignore=ignore, key=os.path.realpath(path))

    @classmethod
    def open_private(cls, path: str, name: str, contents: Mapping[str, bytes] | None = None) -> Self:
        """Open a directory that was made for this build alone, and that nobody writes to.

        No other build sees it, so nothing of it is remembered. contents: see the class.
        """
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(fd, name, is_private=True, contents=contents)

    @classmethod
    def empty(cls, scratch: Path, name: str = "-") -> Self:
        """A context without files, as a Dockerfile on standard input has it. scratch: a directory to make it in."""
        directory = scratch / "empty-context"
        directory.mkdir(mode=0o700, exist_ok=True)
        return cls(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name)

    @classmethod
    def from_tar(cls, stream: SupportsRead, scratch: Path, name: str = "-") -> Self:
        """Unpack the tar that ``stream`` holds, compressed or not, into a new directory below ``scratch``.

        Nothing is written outside of that directory, whatever the tar says. Raises ContextError.
        """
        from builder.contexts.unpacking import unpack_context

        directory = scratch / "context"
        directory.mkdir(mode=0o700)
        unpack_context(stream, directory, limit_bytes=_MAX_STDIN_BYTES)
        return cls.open_private(str(directory), name)

    def with_ignore(self, ignore: IgnorePatterns | None) -> Context:
        """The same directory through other patterns, which are read from it once it is open. Uses this object up."""
        fd, self.fd = self.fd, -1
        return Context(fd, self.name, ignore=ignore, key=self.key, is_private=self._is_private, contents=self.contents)

    @property
    def ignore(self) -> IgnorePatterns | None:
        """The patterns of the files that COPY and ADD do not see; None when there are none."""
        return self._ignore

    def tree(self) -> SourceTree:
        """What COPY and ADD see of it."""
        from builder.contexts.filetree import SourceTree
        from builder.contexts.patterns import IgnoreFilter

        label = f"the build context {self.name}" if self.name != "-" else "the build context from standard input"
        ignored = IgnoreFilter(self._ignore) if self._ignore is not None else None
        if not self._is_private:
            return SourceTree(self.fd, label, ignored=ignored)
        from builder.contexts.privatetree import KnownTree, PrivateTree

        if self.contents is None:
            return PrivateTree(self.fd, label, ignored=ignored)
        return KnownTree(self.fd, label, contents=self.contents, ignored=ignored)

    def read(self, path: str, *, limit_bytes: int = MAX_DOCKERFILE_BYTES) -> bytes | None:
        """Read a file, ignored or not: the Dockerfile or .dockerignore. None when it is not there.

        Raises ContextError unless it is a readable file of reasonable size.
        """
        try:
            fd = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ContextError(f"cannot read {path} in {self.tree().label}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ContextError(f"{path} in {self.tree().label} is not a file")
        with open(fd, "rb") as file:
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise ContextError(f"{path} in {self.tree().label} is bigger than {limit_bytes} bytes")
        return data

    def _open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        if "/" not in path and path not in ("", ".", ".."):
            try:  # a path that is no link cannot lead outside, and needs no ctypes
                return os.open(path, flags | os.O_NOFOLLOW, dir_fd=self.fd)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        from core.kernel import RESOLVE_IN_ROOT, openat2

        return openat2(self.fd, path, flags, resolve=RESOLVE_IN_ROOT)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _where(path: str) -> str:
    return f"looked for {os.path.abspath(path)}"
