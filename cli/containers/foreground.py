"""``run`` without the engine: the launcher runs the container in the foreground, and nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Literal

from cli.attach import in_foreground, window_size
from cli.containers.images import ready_image
from cli.guarding import say
from cli.limits import container_limits, resource_limits, shm_bytes
from cli.options import env_file, environ, host_pairs, pairs
from cli.run_spec import command_line, environment, working_directory
from cli.store import open_store
from containers.extras import DOCKERS_MARKS
from containers.launcher import Launcher
from containers.limits import MEMORY_ABOVE
from containers.spec import ContainerSpec
from core.platforms import Platform
from core.settings import Settings

_STDIN: Final = 0
_NETWORKS: Final[Mapping[str, Literal["default", "none", "host"]]] = {
    "default": "default", "bridge": "default", "none": "none", "host": "host",
}  # fmt: skip


def run_and_forget(
    root: str | None, image: str, arguments: Sequence[str], options: Mapping[str, Any], insecure: Sequence[str]
) -> int:
    """Run a container to its end, on our standard streams. Returns its exit code. Raises ShiplapErrors, OSError.

    options: values by name, of ``options.PLAIN_OPTIONS``.
    """
    overrides: dict[str, str] = {}
    for path in options["env_files"]:
        overrides |= env_file(path, environ())
    overrides |= pairs(options["env"], "-e", environ=environ())
    name = options["hostname"] or os.urandom(6).hex()
    network = _NETWORKS[options["network"][0] if options["network"] else "default"]
    platform = Platform.parse(options["platform"]) if options["platform"] else None
    with ExitStack() as stack:
        store = stack.enter_context(open_store(root, insecure))
        found = ready_image(store, image, policy=options["pull"], platform=platform, root=root, insecure=insecure)
        config = found.config.config
        _warn_of_platform(image, found.config.platform)
        settings = Settings.from_environ(root=root)
        launcher = stack.enter_context(
            Launcher(store.tmp, denied_networks=settings.denied_networks, uplink=settings.uplink)
        )
        if network == "default":
            launcher.warm()  # while the layers are being made ready
        layers = store.snapshots.lowers(found.diff_ids)
        upper = store.snapshots.new_upper(layers)
        stack.callback(store.snapshots.discard, upper)
        spec = ContainerSpec(
            layers=layers,
            upper=upper.path,
            args=command_line(config, options["entrypoint"], arguments),
            env=environment(config, overrides, hostname=name, terminal=options["tty"]),
            cwd=working_directory(config, options["workdir"]),
            user=config.user if options["user"] is None else options["user"],
            hostname=name,
            network=network,
            extra_hosts=host_pairs(options["add_hosts"]),
            terminal=options["tty"],
            terminal_size=window_size(_STDIN) or (24, 80),
            limits=container_limits(options),
            ulimits=resource_limits(options["ulimits"]),
            shm_bytes=shm_bytes(options["shm_size"]),
            marks=DOCKERS_MARKS,
        )
        status = in_foreground(launcher, spec, interactive=options["interactive"])
    if status.message:
        say(f"error: {status.message}")
    for limit in status.exceeded:
        what = f"the container ran into its limit of {limit}"
        if limit == MEMORY_ABOVE:
            what = "memory ran out, of this machine or of the control groups above: the kernel ended a process"
        say(f"warning: {what}")
    return status.code


def _warn_of_platform(image: str, platform: Platform) -> None:
    host = Platform.host()
    if platform != host:
        say(f"warning: {image} is for {platform}, this host is {host}")
