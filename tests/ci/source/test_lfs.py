"""Git LFS: files that are elsewhere come from the repository's server, checked, or from what the user has."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.remotes.gitroute import GitAccess, basic
from builder.remotes.giturls import GitRemote, parse_remote
from ci.errors import RepositoryError
from ci.model import SourceOptions
from ci.source.facts import read_commit
from ci.source.lfs import fetching, lfs_layer, pointers_of
from ci.source.workingtree import LocalRepository
from core.reach import Reach
from core.settings import FetchSettings
from images.store import Store
from tests.ci.source.repositories import Repository, seen
from tests.ci.source.test_git_view import Place
from tests.images.test_snapshots import mounted
from tests.toolkit.git import git

pytestmark = pytest.mark.usefixtures("privileged")

BIG = os.urandom(300_000)
WITH_LFS = SourceOptions(lfs=True)


def oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pointer(data: bytes) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid(data)}\nsize {len(data)}\n"


class LfsServer:
    """objects: content by oid. asked: (path, Authorization) of every request. href: where objects are; None: here."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.objects = {oid(BIG): BIG}
        self.asked: list[tuple[str, str]] = []
        self.href: str | None = None
        self.answer: bytes | None = None


@pytest.fixture
def server() -> Iterator[LfsServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._note()
            told = [self._told(each["oid"], each["size"]) for each in asked["objects"]]
            self._say(made.answer or json.dumps({"transfer": "basic", "objects": told}).encode())

        def do_GET(self) -> None:
            self._note()
            self._say(made.objects[self.path.rpartition("/")[2]])

        def _told(self, name: str, size: int) -> dict[str, Any]:
            if name not in made.objects:
                return {"oid": name, "size": size, "error": {"code": 404, "message": "no"}}
            href = f"{made.href or made.url}/content/{name}"
            header = {"Authorization": "of the object", "Host": "evil", "X-A": "b\r\nEvil: 1"}
            return {"oid": name, "size": size, "actions": {"download": {"href": href, "header": header}}}

        def _note(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization", "")))

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = LfsServer(listener.server_address[1])
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.open(tmp_path / "root") as store:
        made = Place(tmp_path, store)
        yield made
        made.mirror.close()


def filled(repository: Repository, **files: str) -> None:
    repository.commit(
        _DOT_gitattributes="*.bin filter=lfs diff=lfs merge=lfs -text\n", plain="1", d__a_DOT_bin=pointer(BIG), **files
    )


def layer(place: Place, server: LfsServer, access: GitAccess | None = None, url: str = "/o/r") -> Any:
    mirror = place.mirror
    commit = mirror.fetch(*place.repository.way(), "main").commit
    tree = read_commit(mirror.objects, commit).tree
    find = fetching(mirror.objects, parse_remote(f"{server.url}{url}.git"), access or GitAccess(), lambda: False)
    return lfs_layer(place.store, "k", mirror.objects, tree, find)


def files(place: Place, diff_id: Any) -> dict[bytes, bytes]:
    with mounted(place.store.snapshots.lowers((diff_id,)), place.directory) as root:
        return {path: content for path, (mode, content) in seen(root).items() if mode & 0o170000 == 0o100000}


def test_what_is_elsewhere_is_fetched_once_and_checked(place: Place, server: LfsServer) -> None:
    filled(place.repository, b_DOT_bin="no pointer at all", text_DOT_txt=pointer(BIG))
    first = layer(place, server)
    assert files(place, first) == {b"d/a.bin": BIG}
    assert [path for path, _ in server.asked] == ["/o/r.git/info/lfs/objects/batch", f"/content/{oid(BIG)}"]
    assert layer(place, server) == first
    place.repository.commit(plain="2")
    assert layer(place, server) == first
    place.repository.commit(other_DOT_bin=pointer(BIG))
    assert set(files(place, layer(place, server))) == {b"d/a.bin", b"other.bin"}
    assert len(server.asked) == 2


def test_a_tree_without_pointers_asks_nobody(place: Place, server: LfsServer) -> None:
    place.repository.commit(a="1")
    assert layer(place, server) is None
    assert server.asked == []


@pytest.mark.parametrize("wrong", [BIG + b"x", BIG[:-1], b"y" * len(BIG), b""])
def test_other_content_than_the_pointer_tells_is_refused(place: Place, server: LfsServer, wrong: bytes) -> None:
    filled(place.repository)
    server.objects[oid(BIG)] = wrong
    with pytest.raises(RepositoryError, match=r"for d/a\.bin is not what its pointer tells"):
        layer(place, server)
    server.objects[oid(BIG)] = BIG
    assert files(place, layer(place, server)) == {b"d/a.bin": BIG}


def test_what_the_server_lacks_is_named(place: Place, server: LfsServer) -> None:
    filled(place.repository)
    server.objects = {}
    with pytest.raises(RepositoryError, match=r"does not have d/a\.bin"):
        layer(place, server)
    for answer in (b"<html>", b"[]", b'{"objects": [{"oid": 1, "actions": {"download": {}}}]}', b'{"objects": 1}'):
        server.answer = answer
        with pytest.raises(RepositoryError, match="gave an answer that is none"):
            layer(place, server)


def test_credentials_go_to_the_repositorys_host_alone(place: Place, server: LfsServer) -> None:
    filled(place.repository)
    server.href = f"http://localhost:{server.url.rpartition(':')[2]}"
    access = GitAccess(header=lambda host: f"for {host}")
    layer(place, server, access)
    assert [told for _, told in server.asked] == ["for 127.0.0.1", "of the object"]
    assert basic("a:b").startswith("basic ")


def test_an_object_reaches_no_further_than_the_run(place: Place, server: LfsServer) -> None:
    filled(place.repository)
    server.href = "http://10.1.2.3"
    port = server.url.rpartition(":")[2]
    with pytest.raises(BuilderError, match="not a public one"):
        layer(place, server, GitAccess(reach=Reach(public_only=True, allowed=(f"127.0.0.1:{port}",))))
    server.href = "file:///etc"
    with pytest.raises(BuilderError):
        layer(place, server)


def test_too_large_a_file_is_refused_before_it_is_fetched(place: Place, server: LfsServer) -> None:
    filled(place.repository)
    with pytest.raises(RepositoryError, match=r"d/a\.bin has 300000 bytes, and 1000 are the most"):
        layer(place, server, GitAccess(bounds=FetchSettings(file_bytes=1000)))
    assert server.asked == []


def test_a_repository_of_this_machine_has_no_such_server(place: Place) -> None:
    filled(place.repository)
    mirror = place.mirror
    commit = mirror.fetch(*place.repository.way(), "main").commit
    find = fetching(mirror.objects, GitRemote("file:///x", "file", "", 0), GitAccess(), lambda: False)
    with pytest.raises(RepositoryError, match="is fetched by https only"):
        lfs_layer(place.store, "k", mirror.objects, read_commit(mirror.objects, commit).tree, find)


def test_here_it_is_what_the_users_own_lfs_has(place: Place) -> None:
    repository = place.repository
    filled(repository)
    with LocalRepository.open(place.store.root, repository.path) as local:
        tree = local.tree()
        with pytest.raises(RepositoryError, match=r"the content of d/a\.bin is not here"):
            lfs_layer(place.store, local.key, local.objects, tree, local.large_files())
        kept = repository.path / ".git" / "lfs" / "objects" / oid(BIG)[:2] / oid(BIG)[2:4] / oid(BIG)
        kept.parent.mkdir(parents=True)
        kept.write_bytes(BIG[:-1] + b"x")
        with pytest.raises(RepositoryError, match="is not what its pointer tells"):
            lfs_layer(place.store, local.key, local.objects, tree, local.large_files())
        kept.unlink()
        kept.symlink_to("/etc/shadow")
        with pytest.raises(RepositoryError, match="is not here"):
            lfs_layer(place.store, local.key, local.objects, tree, local.large_files())
        kept.unlink()
        kept.write_bytes(BIG)
        made = lfs_layer(place.store, local.key, local.objects, tree, local.large_files())
        assert files(place, made) == {b"d/a.bin": BIG}


def test_git_takes_it_for_unchanged(place: Place, server: LfsServer) -> None:
    filled(place.repository)
    made = layer(place, server)
    large = pointers_of(place.mirror.objects, place.repository.git("rev-parse", "HEAD^{tree}"))
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(place.workspace(place.view(large=large), made))
        assert (top / "d" / "a.bin").read_bytes() == BIG
        assert git(top, "status", "--porcelain") == ""
