"""Which file was probably meant, where the Dockerfile is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.contexts.opening import _files_in, _near, _one_of


@pytest.mark.parametrize(
    ("names", "wanted", "meant"),
    [
        (["notes.txt", "Dokerfile"], "Dockerfile", "Dokerfile"),
        (["notes.txt", "prod.Dockerfile"], "build-it-here", "prod.Dockerfile"),
        (["notes.txt", "Containerfile"], "build-it-here", "Containerfile"),
        (["notes.txt"], "build-it-here", None),
        ([], "Dockerfile", None),
    ],
)
def test_file_that_was_meant(names: list[str], wanted: str, meant: str | None) -> None:
    hint = _near(names, wanted, "/src/./app")
    if meant is None:
        assert hint is None
    else:
        assert hint == f"did you mean {meant}? (shiplap build -f /src/app/{meant})"


def test_files_further_down() -> None:
    assert _one_of([], ".") is None
    one = _one_of(["web/Dockerfile"], "x")
    assert one is not None
    assert one.endswith("(shiplap build -f x/web/Dockerfile)")
    assert _one_of(["a/Dockerfile", "b/Dockerfile"], ".") == (
        "there are a/Dockerfile, b/Dockerfile; name one of them, as in shiplap build -f a/Dockerfile"
    )


def test_files_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    assert _files_in(str(tmp_path)) == ["file"]
    assert _files_in(str(tmp_path / "none")) == []
