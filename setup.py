"""What pyproject.toml cannot say: a wheel and a source archive know the commit that they were built from.

A wheel has the man pages, too, which are made from the help of the commands.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_HERE = Path(__file__).resolve().parent
_MAN = "share/man/man1"
"""Below where the command is installed: man looks there for the pages of commands in PATH, and pipx shows them."""


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
            self.distribution.data_files = [(_MAN, _man_pages(Path(self.build_lib).parent / "man"))]


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


def _man_pages(directory: Path) -> list[str]:
    """Have the command write its pages; their paths. It needs what pyproject.toml requires for that."""
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "cli", "man", directory.resolve()], cwd=_HERE, check=True, stdout=sys.stderr)
    return sorted(map(str, directory.iterdir()))


setup(cmdclass={"build_py": BuildPy, "sdist": SourceArchive})
