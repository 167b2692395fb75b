"""The service's processes. They are rooms of their own, which the command line starts and never imports."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.settings import Settings


def become(module: str, root: str | None, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``python -m module``. root: the value of ``--root``."""
    environment = {**os.environ, "SHIPLAP_ROOT": str(Settings.from_environ(root=root).root)}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], environment)  # noqa: S606
