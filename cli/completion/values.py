"""What may stand after an option, where that is known from the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SIGNALS: Final = ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT")
_ANSWER: Final = ("true", "false")

VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "--format": ("table", "json"),
    "--restart": ("no", "always", "on-failure", "on-failure:", "unless-stopped"),
    "--signal": _SIGNALS,
    "--stop-signal": _SIGNALS,
    "--pid": ("host", "container:"),
    "--ipc": ("private", "shareable", "host", "none", "container:"),
    "--uts": ("host",),
    "--userns": ("host",),
    "--cgroupns": ("private", "host"),
    "--attach": ("stdin", "stdout", "stderr"),
    "--security-opt": ("no-new-privileges", "seccomp=", "seccomp=unconfined"),
    "--mount": ("type=bind,", "type=volume,", "type=tmpfs,", "type=image,"),
    "--type": ("container", "image", "volume"),
    "--output": ("type=image,", "type=oci,dest=", "type=docker,dest=", "type=tar,dest=", "type=local,dest="),
    "--cache-from": ("type=registry,ref=", "type=local,src=", "type=inline"),
    "--cache-to": ("type=registry,ref=", "type=local,dest=", "type=inline"),
    "--call": ("build", "check", "outline", "targets"),
    "--attest": ("type=provenance", "type=sbom"),
    "--provenance": (*_ANSWER, "mode=min", "mode=max"),
    "--sbom": _ANSWER,
    "--allow": ("network.host", "security.insecure"),
    "--secret": ("id=",),
    "--ssh": ("default",),
    "--platform": ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/s390x"),
    "--scope": ("local",),
}
"""By the longest name of the option."""
