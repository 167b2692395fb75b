"""A bare repository beside the service: pushed to by path, and what is pushed is built."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from cli.errors import CommandError

DIRECTORY: Final = "git"
"""Below ROOT: what is there may be fetched by workers, by file:// URLs."""

HOOK: Final = """#!/bin/sh
# HOOK_URL and HOOK_SECRET: as shiplap project add printed them. REPOSITORY: the URL that it was given.
. ./shiplap.conf
while read -r before after ref; do
    title=$(git log -1 --format=%s "$after" 2>/dev/null | tr -d '"\\\\\\000-\\037' | cut -c1-200)
    body=$(printf '{"repository":"%s","ref":"%s","before":"%s","after":"%s","title":"%s","author":"%s"}' \\
        "$REPOSITORY" "$ref" "$before" "$after" "$title" "$(id -un)")
    signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$HOOK_SECRET" | sed 's/.* //')
    printf %s "$body" | curl --silent --show-error --max-time 10 --data-binary @- \\
        -H 'Content-Type: application/json' -H 'X-Shiplap-Event: push' -H "X-Shiplap-Signature: sha256=$signature" \\
        -H "X-Shiplap-Delivery: $after-$ref-$(date +%s%N)" "$HOOK_URL"
    echo
done
"""


def repository_path(root: Path, name: str) -> Path:
    """ROOT/git/NAME.git."""
    return root / DIRECTORY / f"{name}.git"


def make_repository(root: Path, name: str) -> Path:
    """The one at ``repository_path``, made unless it is there. Raises CommandError."""
    repository = repository_path(root, name)
    if not repository.is_dir():
        repository.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        words = ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository)]
        try:
            subprocess.run(words, check=True, umask=0o022)
        except FileNotFoundError as error:
            raise CommandError("git is not installed", hint="apt-get install git") from error
        except subprocess.CalledProcessError as error:
            raise CommandError(f"git could not make {repository}", hint="its own message is above") from error
    return repository


def install_hook(repository: Path, url: str, secret: str) -> None:
    """What is pushed there is told to the webhook at ``url``. The secret is for who owns the repository only."""
    script = repository / "hooks" / "post-receive"
    if script.exists() and script.read_text() != HOOK:
        raise CommandError(
            f"{script} is there already", hint="remove it, or call the webhook from it: docs/webhooks.md"
        )
    script.parent.mkdir(exist_ok=True)
    script.write_text(HOOK)
    script.chmod(0o755)
    values = {"HOOK_URL": url, "HOOK_SECRET": secret, "REPOSITORY": f"file://{repository}"}
    fd = os.open(repository / "shiplap.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in values.items())
