"""ADD of URLs and git repositories: what lands in the image, what is fetched again, what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import socketserver
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuildCancelledError, BuilderError
from builder.remotes.access import SourceAccess
from builder.remotes.git import Git
from builder.remotes.gitroute import basic
from builder.remotes.gitserver import Found
from builder.remotes.http import proxy_for
from builder.remotes.ssh import SshAgent
from builder.running.failures import StepError
from core.reach import Reach
from core.trust import HOST, of_branch, of_fork, protected
from tests.builder.test_build import Workshop, built
from tests.toolkit.files import FileServer, serving_files
from tests.toolkit.git import GitServer, git, serving_git
from tests.toolkit.ssh import ssh_server

pytestmark = pytest.mark.usefixtures("privileged")

DATE, SECONDS = "Sat, 03 Feb 2001 04:05:06 GMT", 981173106


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


@pytest.fixture
def files() -> Iterator[FileServer]:
    with serving_files() as server:
        server.files = {"/dir/f": b"one", "/f": b"other", "/a.tgz": _archive()}
        server.headers = {"/dir/f": {"Last-Modified": DATE}}
        yield server


def _archive() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        member = tarfile.TarInfo("in/side")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"in"))
    return gzip.compress(sink.getvalue(), mtime=0)


# URLs


def test_url_is_a_file_of_root_that_nobody_else_reads(workshop: Workshop, files: FileServer) -> None:
    image = built(workshop.build(f"FROM base\nADD {files.url}/dir/f /x/\nADD {files.url}/dir/f?v=2#part /y\n"))
    found = workshop.files(image)
    assert workshop.read(image, "x/f") == workshop.read(image, "y") == "one"
    assert (found["x/f"].mode, found["x/f"].uid, found["x/f"].gid, found["x/f"].mtime) == (0o600, 0, 0, SECONDS)


def test_url_without_date_or_name_gets_the_epoch_and_buildkits_name(workshop: Workshop, files: FileServer) -> None:
    files.files["/"] = b"index"
    image = built(workshop.build(f"FROM base\nADD {files.url} /x/\nADD --chmod=644 --chown=5:6 {files.url}/f /x/\n"))
    found = workshop.files(image)
    assert found["x/__unnamed__"].mtime == 0
    assert (found["x/f"].mode, found["x/f"].uid, found["x/f"].gid) == (0o644, 5, 6)


def test_name_of_a_url_is_no_pattern_and_leads_nowhere(workshop: Workshop, files: FileServer) -> None:
    files.files |= {"/a[1]*.txt": b"signs", "/up/..": b"up", "/.wh.f": b"deletion"}
    image = built(workshop.build(f"FROM base\nADD {files.url}/a[1]*.txt {files.url}/up/%2e%2e /x/\n"))
    assert workshop.read(image, "x/a[1]*.txt") == "signs"
    assert workshop.read(image, "x/__unnamed__") == "up"
    with pytest.raises(StepError, match=r"names that begin with \.wh\. mark deleted files"):
        workshop.build(f"FROM base\nADD {files.url}/.wh.f /x/\n")


def test_unchanged_url_is_asked_for_and_not_fetched(workshop: Workshop, files: FileServer) -> None:
    text = f"FROM base\nADD {files.url}/dir/f /x\n"
    assert workshop.counts(text) == (1, 0)
    assert workshop.counts(text) == (0, 1)
    assert files.requests == ["GET /dir/f", "HEAD /dir/f"]
    files.files["/dir/f"] = b"two"
    result = workshop.build(text)
    assert (result.executed, files.requests[2:]) == (1, ["HEAD /dir/f", "GET /dir/f"])
    assert workshop.read(built(result), "x") == "two"


def test_url_of_a_server_without_etags_is_fetched_and_counts_by_content(workshop: Workshop, files: FileServer) -> None:
    files.etags = False
    text = f"FROM base\nADD {files.url}/f /x\n"
    assert workshop.counts(text) == (1, 0)
    assert workshop.counts(text) == (0, 1)
    assert files.requests == ["GET /f", "GET /f"]
    files.files["/elsewhere/f"] = files.files["/f"]
    assert workshop.counts(f"FROM base\nADD {files.url}/elsewhere/f /x\n") == (0, 1)


def test_checksum_is_compared_and_saves_the_next_request(workshop: Workshop, files: FileServer) -> None:
    checksum = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    text = f"FROM base\nARG SUM={checksum}\nADD --checksum=$SUM {files.url}/dir/f /x\n"
    assert workshop.counts(text) == (1, 0)
    assert workshop.counts(text) == (0, 1)
    assert files.requests == ["GET /dir/f"]
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(StepError, match=f"has the checksum {checksum}, not {wrong}"):
        workshop.build(f"FROM base\nADD --checksum={wrong} {files.url}/dir/f /x\n")


def test_archive_by_url_is_unpacked_only_when_asked_for(workshop: Workshop, files: FileServer) -> None:
    image = built(workshop.build(f"FROM base\nADD {files.url}/a.tgz /x/\nADD --unpack=true {files.url}/a.tgz /y/\n"))
    assert {"x/a.tgz", "y/in/side"} <= set(workshop.files(image))


def test_several_sources_of_one_add_are_one_layer(workshop: Workshop, files: FileServer) -> None:
    (workshop.context / "local").write_text("local")
    (workshop.context / "packed.tgz").write_bytes(_archive())
    text = f"FROM base\nADD local {files.url}/f packed.tgz {files.url}/dir/f <<EOF /x/\nheredoc\nEOF\n"
    image = built(workshop.build(text))
    assert len(image.diff_ids) == 2
    names = {name for name in workshop.files(image) if name.startswith("x/")}
    assert names == {"x/local", "x/f", "x/in", "x/in/side", "x/EOF"}
    assert workshop.read(image, "x/f") == "one"  # of the same name, the last one
    assert workshop.counts(text) == (0, 1)
    (workshop.context / "local").write_text("changed")
    assert workshop.counts(text) == (1, 0)


def test_link_of_a_url_does_not_depend_on_what_is_below(workshop: Workshop, files: FileServer) -> None:
    assert workshop.counts(f"FROM base\nRUN echo 1\nADD --link {files.url}/f /x/\n") == (2, 0)
    assert workshop.counts(f"FROM base\nRUN echo 2\nADD --link {files.url}/f /x/\n") == (1, 1)


def test_redirects_are_followed_without_credentials_for_others(workshop: Workshop, files: FileServer) -> None:
    with serving_files() as other:
        other.files["/real"] = b"real"
        files.redirects = {"/one": "/two", "/two": f"{other.url}/real"}
        files.authorization = "Bearer s3cret-token"
        secrets = {"HTTP_AUTH_TOKEN_127.0.0.1": b"s3cret-token\n"}
        image = built(workshop.build(f"FROM base\nADD {files.url}/one /x/\n", secrets=secrets))
        assert workshop.read(image, "x/one") == "real"
        other.authorization = files.authorization  # another port is another server: it is not told
        with pytest.raises(StepError, match="answered 401"):
            workshop.build(f"FROM base\nADD {files.url}/one?again /x/\n", secrets=secrets)


def test_url_that_cannot_be_fetched_is_an_error_with_the_place(workshop: Workshop, files: FileServer) -> None:
    with pytest.raises(StepError, match=f"{files.url}/nothing: the server answered 404") as caught:
        workshop.build(f"FROM base\nADD {files.url}/nothing /x/\n")
    assert caught.value.lines.first == 2
    files.redirects = {"/loop": "/loop"}
    with pytest.raises(StepError, match="more than 10 redirects"):
        workshop.build(f"FROM base\nADD {files.url}/loop /x/\n")
    files.redirects = {"/file": "file:///etc/passwd"}
    with pytest.raises(StepError, match="invalid URL 'file:///etc/passwd'"):
        workshop.build(f"FROM base\nADD {files.url}/file /x/\n")


def test_service_does_not_reach_private_addresses(workshop: Workshop, files: FileServer) -> None:
    access = SourceAccess(Reach(public_only=True))
    with pytest.raises(StepError, match="not a public one"):
        workshop.build(f"FROM base\nADD {files.url}/f /x/\n", access=access)
    port = files.url.rpartition(":")[2]
    allowed = Reach(public_only=True, allowed=("a.test",), resolve=lambda host, port: ["127.0.0.1"])
    image = built(workshop.build(f"FROM base\nADD http://a.test:{port}/f /x/\n", access=SourceAccess(allowed)))
    assert workshop.read(image, "x/f") == "other"
    files.redirects = {"/away": f"http://b.test:{port}/f"}
    with pytest.raises(StepError, match=r"b\.test has the address 127"):
        workshop.build(f"FROM base\nADD http://a.test:{port}/away /x/\n", access=SourceAccess(allowed))


# Git


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two commits, a branch, a light tag and an annotated one, and a submodule."""
    served = tmp_path_factory.mktemp("served")
    library, made = served / "library.git", served / "app.git"
    for path in (library, made):
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")
    (library / "lib").write_text("lib")
    git(library, "add", ".")
    git(library, "commit", "--quiet", "-m", "lib")
    (made / "sub").mkdir()
    (made / "sub" / "f").write_text("one")
    (made / "run").write_text("#!")
    (made / "run").chmod(0o755)
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "one", GIT_COMMITTER_DATE=f"{SECONDS} +0000")
    git(made, "tag", "v1")
    git(made, "tag", "-a", "-m", "x", "v1-annotated")
    git(made, "checkout", "--quiet", "-b", "next")
    (made / "sub" / "f").write_text("two")
    git(made, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../library.git", "lib")
    git(made, "commit", "--quiet", "-am", "two")
    git(made, "checkout", "--quiet", "main")
    return made


@pytest.fixture
def server(repository: Path) -> Iterator[GitServer]:
    with serving_git(repository.parent) as serving:
        yield serving


def test_repository_is_its_default_branch_without_git(workshop: Workshop, server: GitServer, repository: Path) -> None:
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git /x\n"))
    found = {name: member for name, member in workshop.files(image).items() if name.startswith("x")}
    assert set(found) == {"x", "x/run", "x/sub", "x/sub/f"}
    assert (found["x/run"].mode, found["x/run"].uid, found["x/sub/f"].mode) == (0o755, 0, 0o644)
    assert found["x/run"].mtime == SECONDS  # the commit's: whoever builds it whenever gets the same layer


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("#next", "two"), ("#v1-annotated", "one"), ("#refs/heads/next", "two"), ("?tag=v1", "one"), ("#COMMIT", "one"),
    ],
)  # fmt: skip
def test_every_form_of_a_reference(
    workshop: Workshop, server: GitServer, repository: Path, reference: str, expected: str
) -> None:
    reference = reference.replace("COMMIT", git(repository, "rev-parse", "main"))
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git{reference} /x\n"))
    assert workshop.read(image, "x/sub/f") == expected


@pytest.mark.parametrize("reference", ["#main:sub", "##subdir=sub,ref=main"])
def test_subdirectory_of_a_repository(workshop: Workshop, server: GitServer, reference: str) -> None:
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git{reference} /x/\n"))
    assert {name for name in workshop.files(image) if name.startswith("x/")} == {"x/f"}


def test_submodules_come_along_unless_told_not_to(workshop: Workshop, server: GitServer) -> None:
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git#next /x\n"))
    assert workshop.read(image, "x/lib/lib") == "lib"
    assert not [name for name in workshop.files(image) if name.endswith("/.git")]
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git?ref=next&submodules=false /x\n"))
    assert "x/lib/lib" not in workshop.files(image)


@pytest.fixture
def nested(tmp_path: Path, repository: Path) -> Iterator[GitServer]:
    """``outer.git`` has the submodules ``a.test`` and ``inner``; that has one of its own; each names a host."""
    served = tmp_path / "served"
    with serving_git(served) as server:
        places = {"innermost": "", "inner": "c.test", "outer": "b.test"}
        for name in places:
            path = served / f"{name}.git"
            path.mkdir(parents=True)
            git(path, "init", "--quiet", "--initial-branch=main")
            (path / name).write_text(name)
            git(path, "add", ".")
        for name, child, host in (("inner", "innermost", "c.test"), ("outer", "inner", "b.test")):
            git(served / f"{child}.git", "commit", "--quiet", "-m", child)
            add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--name", f"x.{child}")
            git(served / f"{name}.git", *add, f"{served}/{child}.git", f"lib/{child}")
            modules = served / f"{name}.git" / ".gitmodules"
            modules.write_text(
                modules.read_text().replace(f"{served}/{child}.git", f"http://{host}:{server.port}/{child}.git")
            )
            git(served / f"{name}.git", "add", ".gitmodules")
        git(served / "outer.git", "commit", "--quiet", "-m", "outer")
        yield server


def bounded(*allowed: str) -> SourceAccess:
    """Names of hosts are this machine's; only those that are named are let through."""
    return SourceAccess(Reach(public_only=True, allowed=allowed, resolve=lambda host, port: ["127.0.0.1"]))


def test_service_fetches_submodules_of_every_level_from_hosts_that_it_may_reach(
    workshop: Workshop, nested: GitServer
) -> None:
    text = f"FROM base\nADD http://a.test:{nested.port}/outer.git /x\n"
    for allowed, refused in ((("a.test",), "b.test"), (("a.test", "b.test"), "c.test")):
        with pytest.raises(StepError, match=f"{refused} has the address 127"):
            workshop.build(text, access=bounded(*allowed))
        assert not [request for request in nested.requests if "innermost" in request]
    image = built(workshop.build(text, access=bounded("a.test", "b.test", "c.test")))
    assert workshop.read(image, "x/lib/inner/lib/innermost/innermost") == "innermost"
    image = built(workshop.build(text.replace(".git ", ".git?submodules=false "), access=bounded("a.test")))
    assert "x/lib/inner/inner" not in workshop.files(image)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ('[submodule "s"]\npath = s\nurl = file:///srv/other.git\n', "git URLs of kind 'file' are not fetched"),
        ('[submodule "s"]\npath = s\nurl = /srv/other.git\n', "are not fetched"),
        ('[submodule "s"]\npath = s\nurl = ext::sh -c id\n', "are not fetched|invalid git URL"),
        ('[submodule "s"]\npath = s\nurl = http://a.test:PORT/library.git\npath = .\n', "No url found"),
        ('[submodule "s"]\npath = .\nurl = http://a.test:PORT/l.git\npath = s\n', "names submodule 's' twice"),
        ('[submodule "s"]\npath = s\nurl = http://a.test\\\\@10.0.0.1:PORT/l.git\n', "10.0.0.1 has the address"),
    ],
)
def test_submodules_that_are_not_fetched_by_a_service(
    workshop: Workshop, tmp_path: Path, repository: Path, modules: str, message: str
) -> None:
    served = tmp_path / "served"
    with serving_git(served) as server:
        path = served / "app.git"
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")
        git(path, "update-index", "--add", "--cacheinfo", f"160000,{git(repository, 'rev-parse', 'main')},s")
        (path / ".gitmodules").write_text(modules.replace("PORT", str(server.port)))
        git(path, "add", ".gitmodules")
        git(path, "commit", "--quiet", "-m", "one")
        with pytest.raises(BuilderError, match=message):
            workshop.build(f"FROM base\nADD http://a.test:{server.port}/app.git /x\n", access=bounded("a.test"))


def test_commit_or_checksum_that_others_fetched_is_fetched_again(
    workshop: Workshop, server: GitServer, files: FileServer, repository: Path
) -> None:
    commit = git(repository, "rev-parse", "main")
    checksum = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    access = SourceAccess(Reach(public_only=True, allowed=("127.0.0.1",)))
    texts = (
        f"FROM scratch\nADD {server.url}/app.git#{commit} /x\n",
        f"FROM scratch\nADD --checksum={checksum} {files.url}/dir/f /x\n",
    )
    shop = protected("shop")
    domains = (HOST, shop, shop, of_branch("shop", "b"), protected("other"), of_fork("shop", 1))
    for text in texts:
        asked = []
        for domain in domains:
            workshop.store.act_for(domain)
            before = len(server.requests) + len(files.requests)
            workshop.build(text, access=access, domain=domain)
            asked.append(len(server.requests) + len(files.requests) > before)
        assert asked == [True, True, False, False, True, True]


def test_what_everybody_may_fetch_is_fetched_once_for_all(workshop: Workshop, files: FileServer) -> None:
    class Public(Reach):
        """As if the server were at a public address."""

        def pin(self, host: str, port: int) -> str:
            return "127.0.0.1"

    port = files.url.rpartition(":")[2]
    checksum = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    text = f"FROM scratch\nADD --checksum={checksum} http://public.test:{port}/dir/f /x\n"
    token = {"HTTP_AUTH_TOKEN_public.test": b"t"}
    asked = []
    for domain, secrets in (
        (protected("shop"), {}), (protected("other"), {}), (of_fork("shop", 1), {}), (of_fork("shop", 1), {}),
        (protected("third"), token), (protected("third"), token), (protected("fourth"), token),
    ):  # fmt: skip
        workshop.store.act_for(domain)
        before = len(files.requests)
        workshop.build(text, access=SourceAccess(Public(public_only=True)), domain=domain, secrets=secrets)
        asked.append(len(files.requests) - before)
    assert asked == [1, 0, 0, 0, 1, 0, 1]


def test_git_directory_is_kept_where_asked_for(workshop: Workshop, server: GitServer, repository: Path) -> None:
    image = built(workshop.build(f"FROM base\nADD --keep-git-dir=true {server.url}/app.git#main /x\n"))
    assert workshop.read(image, "x/.git/HEAD").strip() == git(repository, "rev-parse", "main")
    assert f"url = {server.url}/app.git" in workshop.read(image, "x/.git/config")
    assert "x/.git/FETCH_HEAD" not in workshop.files(image)
    image = built(workshop.build(f"FROM base\nADD {server.url}/app.git?keep-git-dir=1&branch=main /x\n"))
    assert "x/.git/HEAD" in workshop.files(image)


def test_branch_is_asked_for_and_a_commit_is_not(workshop: Workshop, server: GitServer, repository: Path) -> None:
    git(repository, "branch", "moving", "main")
    text = f"FROM base\nADD {server.url}/app.git#moving /x\n"
    assert workshop.counts(text) == (1, 0)
    fetched = len(server.requests)
    assert workshop.counts(text) == (0, 1)
    assert not [request for request in server.requests[fetched:] if "POST" in request and "upload-pack" not in request]
    assert len(server.requests) - fetched <= 2  # ls-remote
    commit = git(repository, "rev-parse", "main")
    pinned = f"FROM base\nADD --checksum={commit[:8]} {server.url}/app.git#{commit} /x\n"
    workshop.build(pinned)
    fetched = len(server.requests)
    assert workshop.counts(pinned) == (0, 1)
    assert len(server.requests) == fetched
    git(repository, "checkout", "--quiet", "moving")
    (repository / "new").write_text("new")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "three")
    git(repository, "checkout", "--quiet", "main")
    assert workshop.counts(text) == (1, 0)


def test_checksum_of_a_repository_is_compared(workshop: Workshop, server: GitServer, repository: Path) -> None:
    commit = git(repository, "rev-parse", "main")
    tag = git(repository, "rev-parse", "v1-annotated")
    workshop.build(f"FROM base\nADD --checksum={commit[:12]} {server.url}/app.git#v1-annotated /x\n")
    workshop.build(f"FROM base\nADD --checksum={tag} {server.url}/app.git#v1-annotated /x\n")
    with pytest.raises(StepError, match=f"main of .* is at {commit}, not at 0123456"):
        workshop.build(f"FROM base\nADD --checksum=0123456 {server.url}/app.git#main /x\n")


def test_branch_that_moves_between_question_and_fetch_is_not_taken(
    workshop: Workshop, server: GitServer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Git.find

    def find(self: Git, ref: str) -> Found:
        found = asked(self, ref)
        git(repository, "branch", "--force", "restless", "next")
        return found

    git(repository, "branch", "--force", "restless", "main")
    monkeypatch.setattr(Git, "find", find)
    with pytest.raises(StepError, match="refs/heads/restless moved while it was fetched"):
        workshop.build(f"FROM base\nADD {server.url}/app.git#restless /x\n")


def test_repository_that_cannot_be_fetched_is_an_error(workshop: Workshop, server: GitServer) -> None:
    for source, message in [
        ("app.git#nothing", "has no branch, tag or commit 'nothing'"),
        ("nowhere.git", "git ls-remote of .* failed"),
        ("app.git#main:nothing", "has no directory 'nothing'"),
        ("app.git#" + "0" * 40, "git fetch of .* failed"),
    ]:
        with pytest.raises(StepError, match=message):
            workshop.build(f"FROM base\nADD {server.url}/{source} /x\n")


def test_token_is_a_secret_of_the_build(workshop: Workshop, server: GitServer) -> None:
    server.authorization = basic("x-access-token:s3cret")
    text = f"FROM base\nADD {server.url}/app.git /x\n"
    with pytest.raises(StepError, match="failed") as caught:
        workshop.build(text)
    assert "GIT_AUTH_TOKEN" in (caught.value.hint or "")
    image = built(workshop.build(text, secrets={"GIT_AUTH_TOKEN": b"s3cret"}))
    assert workshop.read(image, "x/sub/f") == "one"
    assert built(workshop.build(text, secrets={"GIT_AUTH_HEADER.127.0.0.1": server.authorization.encode()}))


def test_repository_over_ssh_takes_the_builds_agent_and_known_hosts(
    workshop: Workshop, repository: Path, tmp_path: Path
) -> None:
    with ssh_server(tmp_path) as server:
        url = f"ssh://root@127.0.0.1:{server.port}{repository}"
        agent = SshAgent.of_keys([str(server.key)])
        known = server.known_hosts.encode()
        text = f"FROM base\nADD {url}#v1 /x\n"
        image = built(workshop.build(text, access=SourceAccess(ssh={"default": agent}, known_hosts=known)))
        assert workshop.read(image, "x/sub/f") == "one"
        again = f"FROM base\nADD {url}#next /x\n"
        with pytest.raises(StepError, match="Permission denied") as caught:
            workshop.build(again, access=SourceAccess(known_hosts=known))
        assert "--ssh default" in (caught.value.hint or "")
        with pytest.raises(StepError, match="Host key verification failed"):
            workshop.build(again, access=SourceAccess(ssh={"default": agent}, known_hosts=b""))


def test_cancel_ends_a_transfer_that_stands_still(workshop: Workshop, files: FileServer) -> None:
    files.files["/endless"] = b"begins"
    files.standing_still.add("/endless")
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(BuildCancelledError):
        workshop.build(f"FROM base\nADD {files.url}/endless /x\n", cancelled=cancelled)


def test_proxies_are_those_of_the_environment() -> None:
    variables = {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.test,.b.test", "all_proxy": "http://q:2"}
    chosen = [proxy_for(variables, scheme, host) for scheme, host in (
        ("https", "c.test"), ("http", "c.test"), ("https", "a.test"), ("https", "x.b.test"), ("http", "localhost"),
    )]  # fmt: skip
    assert chosen == ["http://p:1", "http://q:2", "", "", ""]


@pytest.mark.parametrize("source", ["/f", "/app.git", "/nothing"])
def test_credentials_of_a_url_are_used_and_not_shown(
    workshop: Workshop, files: FileServer, server: GitServer, source: str
) -> None:
    files.authorization = server.authorization = basic("me:s3cr3t")
    url = (server.url if source.endswith(".git") else files.url) + source
    text = f"FROM base\nARG WHO\nADD {url.replace('://', '://${WHO}')} /x\n"
    if source == "/nothing":
        with pytest.raises(StepError) as caught:
            workshop.build(text, build_args={"WHO": "me:s3cr3t@"})
        assert "s3cr3t" not in str(caught.value)
    else:
        workshop.build(text, build_args={"WHO": "me:s3cr3t@"})
    assert "s3cr3t" not in str(workshop.seen.events)
    with pytest.raises(StepError) as caught:
        workshop.build(text, build_args={"WHO": "t0ken@"}, no_cache=True)
    assert "t0ken" not in str(caught.value)


def test_repository_over_gits_own_protocol(workshop: Workshop, repository: Path) -> None:
    class Daemon(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            serve = ["git", "daemon", "--inetd", "--export-all", f"--base-path={repository.parent}"]
            subprocess.run(serve, stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL, check=False)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Daemon) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"git://127.0.0.1:{listener.server_address[1]}/app.git"
            image = built(workshop.build(f"FROM base\nADD {url}#next /x\n"))
        finally:
            listener.shutdown()
            thread.join()
    assert workshop.read(image, "x/sub/f") == "two"
    assert workshop.read(image, "x/lib/lib") == "lib"
