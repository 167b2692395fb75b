"""What the cases fetch: files by URL, and a git repository, both on this machine's loopback."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.toolkit.files import serving_files
from tests.toolkit.git import git, serving_git

_DATE = "Sat, 03 Feb 2001 04:05:06 GMT"


@dataclass(frozen=True, slots=True)
class Places:
    """What the words of cases stand for."""

    words: dict[str, str]

    def put_into(self, text: str) -> str:
        """FILES_URL, GIT_URL and GIT_COMMIT replaced."""
        for word, value in self.words.items():
            text = text.replace(word, value)
        return text


@contextmanager
def serving_places(directory: Path) -> Iterator[Places]:
    """Serve until the end. directory: made, for the repository."""
    repository = directory / "app.git"
    _make_repository(repository)
    with serving_files() as files, serving_git(directory) as repositories:
        archive = gzip.compress(_tar({"t/file": b"in tar"}), mtime=0)
        context = gzip.compress(
            _tar({"Dockerfile": b"FROM base\nCOPY . /x/\n", "f": b"f\n", "no": b"", ".dockerignore": b"no\n"}), mtime=0
        )
        files.files = {
            "/f": b"by URL\n", "/dir/g.txt": b"g\n", "/undated": b"no date\n",
            "/named": b"named\n", "/": b"index\n", "/dir/": b"listing\n",
            "/packed.tar.gz": archive, "/context.tar.gz": context, "/Dockerfile": b"FROM base\nCOPY context /x\n",
        }  # fmt: skip
        files.headers = {path: {"Last-Modified": _DATE} for path in files.files if path != "/undated"}
        files.redirects = {"/moved": "/f"}
        commit = git(repository, "rev-parse", "main")
        yield Places({"FILES_URL": files.url, "GIT_URL": repositories.url, "GIT_COMMIT": commit})


def _make_repository(path: Path) -> None:
    (path / "sub" / "deep").mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "f").write_text("of main\n")
    (path / "run").write_text("#!/bin/sh\n")
    (path / "run").chmod(0o755)
    (path / "link").symlink_to("sub/g")
    (path / "sub" / "g").write_text("g\n")
    (path / "sub" / "deep" / "h").write_text("h\n")
    (path / "Dockerfile").write_text("FROM base\nCOPY . /x/\n")
    (path / "sub" / "Dockerfile").write_text("FROM base\nCOPY g /x/\nCOPY deep /x/deep\n")
    (path / ".dockerignore").write_text("run\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "one")
    git(path, "tag", "v1")
    git(path, "tag", "-a", "-m", "annotated", "v1-annotated")
    git(path, "checkout", "--quiet", "-b", "next")
    (path / "f").write_text("of next\n")
    git(path, "commit", "--quiet", "-am", "two")
    git(path, "checkout", "--quiet", "main")


def _tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 981173106
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()
