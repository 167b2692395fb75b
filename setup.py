"""What pyproject.toml cannot say: a wheel and a source archive know the commit that they were built from."""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_HERE = Path(__file__).resolve().parent


class BuildPy(build_py):
    """Adds the file that ``core.release`` looks for. An editable install asks its checkout each time instead.

    What an earlier version's build left in build/lib would be taken for this version's: modules that have gone.
    """

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            _note_commit(Path(self.build_lib))


class SourceArchive(sdist):
    """The same for an archive, whose wheels are built far from the repository."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        _note_commit(Path(base_dir))


def _note_commit(tree: Path) -> None:
    """SHIPLAP_COMMIT says it where there is no repository: an image is built without."""
    commit = os.environ.get("SHIPLAP_COMMIT") or runpy.run_path(str(_HERE / "core" / "release.py"))["commit"]()
    if commit:
        (tree / "core" / "commit.txt").write_text(f"{commit}\n")


setup(cmdclass={"build_py": BuildPy, "sdist": SourceArchive})
