"""Which files are pipeline files, and how many there may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.errors import CiError
from ci.files import MAX_FILES, chosen, pipeline_files
from ci.parsing import DIRECTORY, FILE


def test_one_file_or_those_of_the_directory_in_order(tmp_path: Path) -> None:
    assert pipeline_files(tmp_path) == []
    folder = tmp_path / DIRECTORY
    folder.mkdir(parents=True)
    for name in ("b.yml", "a.yml", ".hidden.yml", "notes.txt", "c.yaml"):
        (folder / name).touch()
    assert pipeline_files(tmp_path) == [f"{DIRECTORY}/a.yml", f"{DIRECTORY}/b.yml"]
    (tmp_path / FILE).symlink_to("nowhere")  # what is there counts, whatever it is
    with pytest.raises(CiError, match="there are both") as both:
        pipeline_files(tmp_path)
    assert both.value.hint == f"move {FILE} to {DIRECTORY}/main.yml"
    assert chosen(True, [f"{DIRECTORY}/notes.txt"]) == [FILE]


def test_files_have_a_bound() -> None:
    paths = [f"{DIRECTORY}/{number:02}.yml" for number in range(MAX_FILES + 1)]
    assert chosen(False, paths[:-1]) == paths[:-1]
    with pytest.raises(CiError, match=f"has {MAX_FILES + 1} pipelines; at most {MAX_FILES} are possible"):
        chosen(False, paths)
