"""Build contexts from git repositories and URLs, and named ones in place of stages and images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.contexts.context import Context
from builder.contexts.keys import context_key
from builder.contexts.named import open_named_context
from builder.contexts.opening import BuildSource, open_source
from builder.errors import ContextError, DockerfileNotFoundError, FetchError
from builder.remotes.access import Remote
from builder.running.failures import StepError
from core.platforms import Platform
from dockerfile_grammar import DockerfileError
from images.archive import SavedImage, save_directory
from tests.builder.test_build import Workshop, built
from tests.toolkit.files import FileServer, serving_files
from tests.toolkit.git import git, serving_git

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


@pytest.fixture
def files() -> Iterator[FileServer]:
    with serving_files() as server:
        yield server


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[str]:
    """The URL of a server with ``app.git``: a Dockerfile at the top, another in ``sub``, an ignored file."""
    made = tmp_path / "served" / "app.git"
    (made / "sub").mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "Dockerfile").write_text("FROM base\nCOPY . /x/\n")
    (made / "sub" / "other.Dockerfile").write_text("FROM base\nCOPY . /sub/\n")
    (made / "ignored").touch()
    (made / ".dockerignore").write_text("ignored\n")
    git(made, "add", "--force", ".")
    git(made, "commit", "--quiet", "-m", "one")
    git(made, "tag", "v1")
    with serving_git(made.parent) as server:
        yield server.url


def opened(context: str, scratch: Path, file: str | None = None, **options: Any) -> BuildSource:
    return open_source(context, file, stdin=io.BytesIO(b"FROM scratch\n"), scratch=scratch, remote=Remote(**options))


def listed(source: BuildSource) -> set[str]:
    with source.context:
        return {entry.path for entry in source.context.tree().walk("")}


# Git


def test_git_context_has_its_dockerfile_and_its_ignore_file(repositories: str, tmp_path: Path) -> None:
    source = opened(f"{repositories}/app.git", tmp_path)
    assert source.dockerfile == b"FROM base\nCOPY . /x/\n"
    assert listed(source) == {"Dockerfile", "sub", "sub/other.Dockerfile", ".dockerignore"}


@pytest.mark.parametrize("reference", ["#v1:sub", "#:sub", "?subdir=sub&tag=v1"])
def test_git_context_may_be_a_directory_of_a_ref(repositories: str, tmp_path: Path, reference: str) -> None:
    source = opened(f"{repositories}/app.git{reference}", tmp_path, "other.Dockerfile")
    assert source.dockerfile_name == "other.Dockerfile"
    assert listed(source) == {"other.Dockerfile"}


def test_git_directory_is_in_the_context_where_asked_for(repositories: str, tmp_path: Path) -> None:
    keep = {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}
    assert ".git/HEAD" in listed(opened(f"{repositories}/app.git", tmp_path, build_args=keep))
    assert ".git/HEAD" in listed(opened(f"{repositories}/app.git?keep-git-dir=true", tmp_path))


def test_git_context_with_a_dockerfile_on_standard_input(repositories: str, tmp_path: Path) -> None:
    source = opened(f"{repositories}/app.git#v1", tmp_path, "-")
    assert source.dockerfile == b"FROM scratch\n"
    assert "sub" in listed(source)


def test_git_context_that_lacks_what_was_named(repositories: str, tmp_path: Path) -> None:
    with pytest.raises(DockerfileNotFoundError, match=r"no Containerfile in the build context http"):
        opened(f"{repositories}/app.git", tmp_path, "Containerfile")
    with pytest.raises(FetchError, match="no branch, tag or commit 'v2'"):
        opened(f"{repositories}/app.git#v2", tmp_path)
    with pytest.raises(FetchError, match="no directory 'nothing'"):
        opened(f"{repositories}/app.git#v1:nothing", tmp_path)


def test_directory_with_the_name_of_a_url_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "github.com" / "app").mkdir(parents=True)
    (tmp_path / "github.com" / "app" / "Dockerfile").write_text("FROM base\n")
    monkeypatch.chdir(tmp_path)
    assert listed(opened("github.com/app", tmp_path)) == {"Dockerfile"}


# URLs


def test_url_of_a_tar_is_the_context(files: FileServer, tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, data in {"Dockerfile": b"FROM base\n", "f": b"f", ".dockerignore": b"f\n"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    files.files["/context.tgz"] = sink.getvalue()
    source = opened(f"{files.url}/context.tgz", tmp_path)
    assert source.dockerfile == b"FROM base\n"
    assert listed(source) == {"Dockerfile", ".dockerignore"}


def test_url_of_a_dockerfile_has_nothing_but_itself(files: FileServer, tmp_path: Path) -> None:
    files.files["/Dockerfile"] = b"FROM base\nCOPY context /x\n"
    source = opened(f"{files.url}/Dockerfile", tmp_path)
    assert source.dockerfile == files.files["/Dockerfile"]
    assert listed(source) == {"context"}


# Named contexts


def named(workshop: Workshop, **values: str) -> dict[str, Any]:
    platforms = [Platform.host()]
    return {context_key(name): open_named_context(value, workshop.store, platforms) for name, value in values.items()}


def build(workshop: Workshop, text: str, contexts: dict[str, Any], **options: Any) -> Any:
    try:
        return workshop.build(text, named_contexts=contexts, **options)
    finally:
        for context in contexts.values():
            if isinstance(context, Context):
                context.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    made = tmp_path / "library"
    (made / "d").mkdir(parents=True)
    (made / "d" / "f").write_text("of the library")
    (made / "ignored").touch()
    (made / ".dockerignore").write_text("ignored\n")
    return made


def test_directory_is_copied_from_with_its_own_ignore_file(workshop: Workshop, library: Path) -> None:
    text = "FROM base\nCOPY --from=lib . /x/\nCOPY --from=lib d/f /y\n"
    image = built(build(workshop, text, named(workshop, lib=str(library))))
    found = workshop.files(image)
    assert {name for name in found if name.startswith("x/")} == {"x/.dockerignore", "x/d", "x/d/f"}
    assert (workshop.read(image, "y"), found["y"].uid) == ("of the library", 0)


def test_directory_counts_by_its_content_whatever_it_is_called(workshop: Workshop, library: Path) -> None:
    first = build(workshop, "FROM base\nCOPY --from=lib d /x/\n", named(workshop, lib=str(library)))
    again = build(workshop, "FROM base\nCOPY --from=other d /x/\n", named(workshop, other=str(library)))
    assert (first.executed, again.executed, again.cached) == (1, 0, 1)
    (library / "d" / "f").write_text("changed")
    changed = build(workshop, "FROM base\nCOPY --from=lib d /x/\n", named(workshop, lib=str(library)))
    assert workshop.read(built(changed), "x/f") == "changed"


def test_directory_is_mounted_and_is_a_base(workshop: Workshop, library: Path) -> None:
    text = (
        "FROM base\nRUN --mount=from=lib,target=/m cat /m/d/f; ls -a /m\n"
        "RUN --mount=from=lib,source=d,target=/m cat /m/f\n"
        "FROM lib\nCOPY --from=0 /bin/busybox /bin/sh\nENV PATH=/bin\nRUN test -f /d/f && echo ok > /ok\n"
    )
    image = built(build(workshop, text, named(workshop, lib=str(library))))
    assert workshop.seen.output() == "of the library.\n..\n.dockerignore\nd\nof the library"
    assert workshop.read(image, "d/f") == "of the library"


def test_context_replaces_a_stage_of_its_name(workshop: Workshop, library: Path) -> None:
    text = (
        "FROM base AS Lib\nRUN exit 1\nFROM lib AS child\nFROM base\nCOPY --from=Lib d/f /x\nCOPY --from=child d/f /y\n"
        "COPY --from=0 d/f /z\n"
    )
    image = built(build(workshop, text, named(workshop, lib=str(library))))
    assert [workshop.read(image, name) for name in "xyz"] == ["of the library"] * 3


def test_image_replaces_an_image_with_its_configuration(workshop: Workshop) -> None:
    workshop.build("FROM base\nENV WHO=replacement\nRUN echo r > /r\n")  # built:latest
    contexts = named(workshop, **{"docker.io/library/alpine:3.20": "docker-image://built"})
    text = 'FROM alpine:3.20\nRUN echo "$WHO" > /who\nCOPY --from=alpine:3.20 /r /s\n'
    image = built(build(workshop, text, contexts))
    assert (workshop.read(image, "who"), workshop.read(image, "s")) == ("replacement\n", "r\n")
    assert "WHO=replacement" in image.config.config.env
    with pytest.raises(DockerfileError, match="alpine"):
        build(workshop, "FROM alpine:3.19\n", contexts)


def test_name_without_a_tag_means_latest(workshop: Workshop) -> None:
    contexts = named(workshop, app="docker-image://base")
    assert build(workshop, "FROM app:latest\nRUN true\n", contexts).executed == 1
    assert build(workshop, "FROM docker.io/library/app\nRUN true\n", contexts).cached == 1


def test_scratch_may_replace_an_image(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("f")
    image = built(build(workshop, "FROM big\nCOPY f /\n", named(workshop, big="docker-image://scratch")))
    assert set(workshop.files(image)) == {"f"}


def test_layout_is_a_context(workshop: Workshop, tmp_path: Path) -> None:
    image = built(workshop.build("FROM base\nENV WHO=layout\nRUN echo l > /l\n"))
    save_directory(workshop.store, [SavedImage(image)], tmp_path / "layout")
    text = 'FROM x\nRUN echo "$WHO" > /who\n'
    found = built(build(workshop, text, named(workshop, x=f"oci-layout://{tmp_path}/layout")))
    assert workshop.read(found, "who") == "layout\n"


@pytest.mark.parametrize(
    ("reference", "expected"), [("", "Dockerfile\nignored\nsub\n"), ("#v1:sub", "other.Dockerfile\n")]
)
def test_repository_is_a_context(workshop: Workshop, repositories: str, reference: str, expected: str) -> None:
    text = "FROM base\nCOPY --from=lib . /x/\nRUN --mount=from=lib,target=/m ls /m /x\n"
    build(workshop, text, named(workshop, lib=f"{repositories}/app.git{reference}"))
    assert workshop.seen.output() == f"/m:\n{expected}\n/x:\n{expected}"


def test_url_is_a_context_with_one_file(workshop: Workshop, files: FileServer) -> None:
    files.files["/f"] = b"by url"
    image = built(build(workshop, "FROM base\nCOPY --from=u context /x\n", named(workshop, u=f"{files.url}/f")))
    assert workshop.read(image, "x") == "by url"


def test_values_that_are_no_contexts(workshop: Workshop, tmp_path: Path) -> None:
    for value, message in [
        ("target:other", "cannot be another target"),
        (f"{tmp_path}/nothing", "does not exist"),
        ("docker-image://UPPER", "UPPER"),
        (f"oci-layout://{tmp_path}", "cannot read index.json"),
        ("https:///f", "invalid URL"),
    ]:
        with pytest.raises(Exception, match=message):
            open_named_context(value, workshop.store, [Platform.host()])
    for name in ("context", "scratch", "two words"):
        with pytest.raises(ContextError):
            context_key(name)


def test_missing_file_of_a_named_context_says_which(workshop: Workshop, library: Path) -> None:
    with pytest.raises(StepError, match=f'"/nothing" not found in the build context {library}'):
        build(workshop, "FROM base\nCOPY --from=lib nothing /\n", named(workshop, lib=str(library)))
