"""Where the Dockerfile, its ignore file and the context come from."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.contexts.context import Context
from builder.contexts.dockerfiles import dockerfiles_in
from builder.contexts.opening import BuildSource, open_source
from builder.errors import ContextError, DockerfileNotFoundError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\n")
    (directory / "kept").write_text("k")
    (directory / "ignored").write_text("i")
    return directory


def opened(context: Path | str, file: str | None = None, stdin: bytes = b"", *, scratch: Path) -> BuildSource:
    scratch.mkdir(exist_ok=True)
    return open_source(str(context), file, stdin=io.BytesIO(stdin), scratch=scratch)


def names(source: BuildSource) -> list[str]:
    with source.context:
        tree = source.context.tree()
        return [name for name in tree.names("") if not tree.ignores(name)]


def packed(directory: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(directory, ".")
    return data.getvalue()


def test_dockerfile_of_the_context(context: Path, tmp_path: Path) -> None:
    source = opened(context, scratch=tmp_path / "s")
    assert (source.dockerfile, source.dockerfile_name) == (b"FROM scratch\n", "Dockerfile")
    assert names(source) == ["Dockerfile", "ignored", "kept"]


def test_dockerignore_of_the_context(context: Path, tmp_path: Path) -> None:
    (context / ".dockerignore").write_text("ignored\nDockerfile\n.dockerignore\n")
    source = opened(context, scratch=tmp_path / "s")
    assert source.dockerfile == b"FROM scratch\n"
    assert names(source) == ["kept"]


def test_ignore_file_beside_the_dockerfile_beats_the_contexts(context: Path, tmp_path: Path) -> None:
    (context / ".dockerignore").write_text("kept\n")
    other = tmp_path / "other.Dockerfile"
    other.write_text("FROM x\n")
    (tmp_path / "other.Dockerfile.dockerignore").write_text("ignored\n")
    source = opened(context, str(other), scratch=tmp_path / "s")
    assert (source.dockerfile, source.dockerfile_name) == (b"FROM x\n", str(other))
    assert "kept" in names(source)
    assert "ignored" not in names(opened(context, str(other), scratch=tmp_path / "s"))


def test_lower_case_dockerfile_is_found(context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").rename(context / "dockerfile")
    assert opened(context, scratch=tmp_path / "s").dockerfile_name == "dockerfile"


def test_dockerfile_on_stdin_with_a_directory(context: Path, tmp_path: Path) -> None:
    source = opened(context, "-", b"FROM stdin\n", scratch=tmp_path / "s")
    assert source.dockerfile == b"FROM stdin\n"
    assert "kept" in names(source)


def test_dockerfile_alone_on_stdin_has_an_empty_context(tmp_path: Path) -> None:
    source = opened("-", None, b"FROM stdin\n" * 100, scratch=tmp_path / "s")
    assert source.dockerfile == b"FROM stdin\n" * 100
    assert names(source) == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tar_on_stdin(pack: Callable[[bytes], bytes], context: Path, tmp_path: Path) -> None:
    (context / "sub.Dockerfile").write_text("FROM sub\n")
    (context / ".dockerignore").write_text("ignored\n")
    data = pack(packed(context))
    assert opened("-", None, data, scratch=tmp_path / "s").dockerfile == b"FROM scratch\n"
    source = opened("-", "sub.Dockerfile", data, scratch=tmp_path / "t")
    assert source.dockerfile == b"FROM sub\n"
    assert "ignored" not in names(source)


def test_missing_dockerfile_suggests_the_one_that_is_there(context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").rename(context / "Containerfile")
    (context / "dockerfiles").mkdir()  # near, and no file
    (context / "Makefile").write_text("all:\n")
    with pytest.raises(DockerfileNotFoundError, match="there is no Dockerfile in the build context") as caught:
        opened(context, scratch=tmp_path / "s")
    assert caught.value.hint == f"did you mean Containerfile? (shiplap build -f {context}/Containerfile)"


def test_missing_dockerfile_names_those_further_down_the_nearest_first(context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").unlink()
    (context / "web" / "deep").mkdir(parents=True)
    (context / "api").mkdir()
    (context / "node_modules" / "x").mkdir(parents=True)
    (context / ".git").mkdir()
    for path in ("web/deep/Dockerfile", "node_modules/x/Dockerfile", ".git/Dockerfile", "web/Dockerfile.dockerignore"):
        (context / path).write_text("FROM scratch\n")
    with pytest.raises(DockerfileNotFoundError) as caught:
        opened(context, scratch=tmp_path / "s")
    assert caught.value.found == ("web/deep/Dockerfile",)
    call = f"shiplap build -f {context}/web/deep/Dockerfile"
    assert caught.value.hint == f"did you mean web/deep/Dockerfile? ({call})"
    (context / "api" / "dev.Dockerfile").write_text("FROM scratch\n")
    (context / "api" / "bad\nDockerfile").write_text("FROM scratch\n")
    with pytest.raises(DockerfileNotFoundError) as caught:
        opened("-", None, packed(context), scratch=tmp_path / "t")
    assert caught.value.found == ("api/dev.Dockerfile", "web/deep/Dockerfile")
    told = (
        "there are api/dev.Dockerfile, web/deep/Dockerfile; name one of them, as in shiplap build -f api/dev.Dockerfile"
    )
    assert caught.value.hint == told


def test_the_look_for_dockerfiles_is_bounded(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"d{number:02}").mkdir()
        (tmp_path / f"d{number:02}" / "Dockerfile").touch()
    with Context.open_directory(str(tmp_path)) as wide:
        assert len(dockerfiles_in(wide)) == 8
    deep = tmp_path / "deep" / "a/b/c/d/e"
    deep.mkdir(parents=True)
    (deep / "Dockerfile").touch()
    with Context.open_directory(str(tmp_path / "deep")) as context:
        assert dockerfiles_in(context) == ()
    many = tmp_path / "many"
    many.mkdir()
    for number in range(5001):
        (many / f"a{number}").touch()
    (many / "z.Dockerfile").touch()
    with Context.open_directory(str(many)) as context:
        assert dockerfiles_in(context) == ()


def test_missing_named_dockerfile_suggests_a_near_name(context: Path, tmp_path: Path) -> None:
    with pytest.raises(DockerfileNotFoundError, match="there is no Dockerfile") as caught:
        opened(context, str(context / "Dockerfil"), scratch=tmp_path / "s")
    assert caught.value.hint == f"did you mean Dockerfile? (shiplap build -f {context}/Dockerfile)"


def test_a_dockerfile_in_small_letters_is_found_in_a_tar_as_in_a_directory(context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").rename(context / "dockerfile")
    (context / "dockerfile.dockerignore").write_text("ignored\n")
    for source in (opened(context, scratch=tmp_path / "s"), opened("-", None, packed(context), scratch=tmp_path / "t")):
        assert (source.dockerfile_name, source.dockerfile) == ("dockerfile", b"FROM scratch\n")
        assert "ignored" not in names(source)


def test_tar_without_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DockerfileNotFoundError):
        opened("-", None, packed(tmp_path / "empty"), scratch=tmp_path / "s")


def test_context_that_is_a_file(context: Path, tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="is not a directory") as caught:
        opened(context / "Dockerfile", scratch=tmp_path / "s")
    assert "-f" in (caught.value.hint or "")


def test_context_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="does not exist"):
        opened(tmp_path / "nowhere", scratch=tmp_path / "s")


def test_both_from_stdin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="cannot both"):
        opened("-", "-", b"", scratch=tmp_path / "s")


def test_dockerfile_that_is_a_directory(context: Path, tmp_path: Path) -> None:
    os.unlink(context / "Dockerfile")
    (context / "Dockerfile").mkdir()
    with pytest.raises(ContextError, match=r"^Dockerfile in the build context .* is not a file"):
        opened(context, scratch=tmp_path / "s")
