"""``spec.json``: what a container's keeper, and ``inspect``, need of what was asked for.

It is written aside and renamed, never changed in place: a keeper reads the old one or the new one. Texts that are no
UTF-8 are kept (surrogateescape).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.digests import DiffID
from core.files import write_atomically
from engine.times import text_of

if TYPE_CHECKING:  # they take 50 ms to load, and who looks at containers needs none of them
    from core.rootfs import RootLayer
    from engine.callers import Caller
    from engine.config import Config
    from engine.hostconfig import HostConfig

FORMAT: Final = 1


class Origin(NamedTuple):
    """What a container is made of.

    image: the image's ID; name: as it was asked for. diff_ids: the layers, base first.
    """

    image: str
    name: str
    diff_ids: tuple[str, ...]


def build(
    identity: str,
    created_ns: int,
    caller: Caller,
    origin: Origin,
    config: Config,
    host: HostConfig,
    mounts: Sequence[Mapping[str, Any]],
    network: Any,
    directory: Path,
) -> dict[str, Any]:
    """The document, without a name. directory: the container's. Layers are added by ``with_layers``."""
    document = config.document
    return {
        "format": FORMAT,
        "id": identity,
        "name": "",
        "created": text_of(created_ns),
        "hostname": config.hostname,
        "caller": caller._asdict(),
        "image": origin.image,
        "image_name": origin.name,
        "labels": document["Labels"],
        "diff_ids": list(origin.diff_ids),
        "layers": [],
        "upper": str(directory / "upper"),
        "process": {
            "args": list(config.args),
            "env": [list(pair) for pair in config.env],
            "cwd": document["WorkingDir"] or "/",
            "user": document["User"],
            "terminal": document["Tty"],
            "stdin_open": document["OpenStdin"],
            "stdin_once": document["StdinOnce"],
            "capabilities": sorted(host.privileges.capabilities),
            "filtered": host.privileges.filtered,
            "ulimits": [list(limit) for limit in host.ulimits],
            "no_new_privileges": host.privileges.no_new_privileges,
            "init": host.init,
        },
        "extras": {**host.privileges.extras, **({"domainname": domain} if (domain := document["Domainname"]) else {})},
        "limits": host.limits,
        "shm_bytes": host.shm_bytes,
        "mounts": [*(dict(mount) for mount in mounts), *host.privileges.mounts()],
        "read_only": host.read_only,
        "network": network,
        "pid": host.sharing.pid,
        "ipc": host.sharing.ipc,
        "extra_hosts": [list(pair) for pair in host.network.extra_hosts],
        "host_gateway": host.network.host_gateway,
        "resolver": host.network.resolver(),
        "stop": {"signal": config.stop_signal, "timeout_s": config.stop_timeout_s},
        "restart": host.restart,
        "health": config.health,
        "log": host.log,
        "auto_remove": host.auto_remove,
        "asked": {**document, "HostConfig": host.document},
    }


def with_layers(document: dict[str, Any], lowers: Callable[[Sequence[DiffID]], Sequence[RootLayer]]) -> dict[str, Any]:
    """The document with the layers to mount, of its root and of mounted images. lowers: what makes them ready."""
    from containers.spec import layers_to_wire

    def ready(diff_ids: Sequence[str]) -> list[list[str]]:
        layers = lowers([DiffID(diff_id) for diff_id in diff_ids])
        return [list(layer) for layer in layers_to_wire(tuple(layers))]

    mounts = [
        {**mount, "layers": ready(mount["diff_ids"])} if mount["kind"] == "tree" else mount
        for mount in document["mounts"]
    ]
    return {**document, "layers": ready(document["diff_ids"]), "mounts": mounts}


def read(directory: Path) -> dict[str, Any]:
    """The document of the container in this directory. Raises FileNotFoundError."""
    data = (directory / "spec.json").read_bytes()
    found: dict[str, Any] = json.loads(data.decode(errors="surrogateescape"))
    return found


def write(directory: Path, document: Mapping[str, Any]) -> None:
    """Replace the document, durably."""
    data = json.dumps(document, ensure_ascii=False).encode(errors="surrogateescape")
    write_atomically(directory / "spec.json", data, mode=0o600)
