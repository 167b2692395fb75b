"""What `shiplap doctor` finds out for containers that live on: whether they outlive a session, and who is seen inside.

What is missing costs something, never all: each answer names what, and the next step.
"""

from __future__ import annotations

import os
from pathlib import Path

from containers import delegation, programs
from containers.errors import NetworkError
from containers.netspaces import inside
from containers.switchrules import FIND_TRANSPARENT
from core.namespaces import id_map
from core.owners import user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Found: TypeAlias = tuple[bool, str, str]
    """Whether it is well, what was found, and what to do if not."""

_LINGERING = Path("/var/lib/systemd/linger")
_RULES = f"""
add table inet shiplap
add chain inet shiplap mangle {{ type filter hook prerouting priority mangle; policy accept; }}
add rule inet shiplap mangle {FIND_TRANSPARENT} accept
"""


def transparent() -> Found:
    """Whether the kernel finds transparent sockets (``nft_socket``). Raises OSError."""

    def work() -> list[int]:
        complaint = programs.nft(_RULES)
        if complaint:
            raise NetworkError(complaint, hint="as root: modprobe nft_socket")
        return []

    try:
        inside(None, work)
    except NetworkError as error:
        detail = "a container sees the gateway instead of a published port's clients"
        return False, f"{detail}: {error.message.splitlines()[0]}", error.hint or ""
    return True, "a container sees the clients of its published ports", ""


def lingering(folder: Path = _LINGERING) -> Found:
    """Whether the processes of the user whose root this is go on when the last session ends."""
    name = user_name(id_map()[0][1])
    if not delegation.has_systemd():
        return True, "nothing here ends a user's processes with the session", ""
    if (folder / name).exists():
        return True, f"containers of {name} outlive the session", ""
    return False, f"containers of {name} end with the last session", f"loginctl enable-linger {name}"


def manager() -> Found:
    """Whether the user has a manager of systemd's, which gives containers a scope with control groups of its own."""
    if not delegation.has_systemd():
        return True, "there is no systemd", ""
    if delegation.scope():
        return True, "containers get a scope of the user's manager", ""
    remedy = "log in by ssh, a console, or machinectl shell USER@ instead of su, so that XDG_RUNTIME_DIR is there"
    return False, f"no manager at XDG_RUNTIME_DIR ({os.environ.get('XDG_RUNTIME_DIR', 'not set')})", remedy
