"""The project's own files agree with each other: documents, links, lock, targets."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_DOCUMENTS = sorted([*_CHECKOUT.glob("*.md"), *_CHECKOUT.glob("docs/**/*.md"), *_CHECKOUT.glob("*/README.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_CHECKOUT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = [target for target in _LINK.findall(document.read_text()) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_files_that_documents_name_exist() -> None:
    named = re.compile(r"`((?:docs|scripts|examples|bench|tests|core|images|containers|builder|cli)/[\w./-]*\w)`")
    missing = {
        f"{document.name}: {name}"
        for document in _DOCUMENTS
        for name in named.findall(document.read_text())
        if not (_CHECKOUT / name).exists() and not name.startswith("bench/results")
    }
    assert missing == set()


def test_lock_holds_every_dependency_with_hashes() -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    locked = dict(
        re.findall(r"^([\w.-]+)==.*\\\n +--hash=(sha256):", (_CHECKOUT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert [name for name in wanted if re.split(r"[<>=!~\[; ]", name)[0].lower() not in locked] == []


def test_make_without_a_target_lists_the_targets() -> None:
    listed = subprocess.run(["make", "-C", _CHECKOUT], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^\.PHONY: (\w+)$", (_CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if f"make {target} " not in listed] == []


def test_pre_commit_runs_what_make_check_runs() -> None:
    checks = re.search(r"^CHECKS := (.*)$", (_CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert checks
    configuration = (_CHECKOUT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (.+?),", configuration) == [f"make check-{name}" for name in checks[1].split()]
    assert re.findall(r"repo: (.*)", configuration) == ["local"]  # nothing is fetched
    planned = subprocess.run(["make", "--dry-run", "check"], cwd=_CHECKOUT, capture_output=True, text=True, check=True)
    tools = (
        "ruff check",
        "ruff format",
        "mypy",
        "lint-imports",
        "shellcheck",
        "oxlint",
        "documents",
        "codespell",
        "references",
    )
    assert [tool for tool in tools if tool not in planned.stdout] == []


def test_spelling_is_british_and_right(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("We recieve its behavior.\nWe receive its behaviour.\n")
    tool = Path(sys.executable).parent / "codespell"
    found = subprocess.run(
        [tool, "--dictionary", "-", "--dictionary", "scripts/british.txt", page],
        cwd=_CHECKOUT,
        capture_output=True,
        text=True,
    )
    said = [line.removeprefix(f"{page}:") for line in found.stdout.splitlines() if line.startswith(str(page))]
    assert said == ["1: recieve ==> receive", "1: behavior ==> behaviour"]


def test_import_contract_names_every_room() -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())
    not_rooms = {"tests", "bench"}
    packages = {path.parent.name for path in _CHECKOUT.glob("*/__init__.py")} - not_rooms
    packaged = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages == set(project["tool"]["importlinter"]["root_packages"]) == packaged


def test_image_of_shiplap_is_made_of_every_room() -> None:
    kept = re.findall(r"^!(\w+)$", (_CHECKOUT / "compose" / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    rooms = {path.parent.name for path in _CHECKOUT.glob("*/__init__.py")} - {"tests", "bench"}
    assert rooms == set(kept) - {"LICENSE"}
