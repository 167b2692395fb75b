"""README's way from nothing to a green build started by ``git push``, as a newcomer goes it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

from tests.toolkit.git import git
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_README: Final = Path(__file__).resolve().parents[2] / "README.md"


def readme_commands(root: Path) -> list[list[str]]:
    """The commands that README begins with, without prompt and comments, with ``root`` in place of the usual one."""
    section = _README.read_text().partition("\n## In a minute or two\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    \$ (.+)$", section.replace("/var/lib/shiplap", str(root)), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_git_push_starts_a_green_build_in_four_commands_after_the_install(
    privileged: None, shiplap: Shiplap, tmp_path: Path, busybox_tar: Path
) -> None:
    programs, install, import_base, build, run, *jobs, serve, add, push, follow = readme_commands(shiplap.root)
    assert programs[0] == "scripts/install-debian"
    assert install[:2] == ["pipx", "install"]  # tests/project installs the wheel
    assert import_base[:3] == ["shiplap", "image", "import"]  # this, build and run: as `make demo` does them
    assert build[1] == "build"
    assert run[1] == "run"
    assert ["shiplap", "ci", "run"] in jobs
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    clone = tmp_path / "hello"
    clone.mkdir()
    git(clone, "init", "--quiet", "--initial-branch=main")
    context = clone / add[add.index("--context") + 1]
    assert (_README.parent / context.relative_to(clone) / "Dockerfile").is_file(), "this repository can be pushed"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo hello from a push\n")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "Begin")
    assert serve == ["shiplap", "serve", "&"]
    with (
        (tmp_path / "serve.log").open("w") as log,
        shiplap.start("serve", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE, stderr=log) as serving,
    ):
        try:
            assert serving.stdout is not None
            said = [serving.stdout.readline().decode() for _ in range(3)]
            assert re.fullmatch(r"http://127.0.0.1:\d+/welcome\?link=\S+", json.loads(said[2])["link"])
            assert add[0] == follow[0] == "shiplap"
            shiplap(*add[1:])
            assert push[0] == "git"
            git(clone, *push[1:])
            assert "hello from a push" in shiplap(*follow[1:]).stdout
            (run,) = shiplap.json("runs", "ls", "--json")
            assert run["state"] == "succeeded"
        finally:
            serving.terminate()
