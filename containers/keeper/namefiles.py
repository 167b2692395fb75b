"""RUN/switch/NETWORK.names: who is called what in a network, written by whoever starts or ends an endpoint.

One JSON document for a network: ``{"network": NAME, "containers": {ID: {"names": [...], "addresses": [...]}}}``. It is
written aside and renamed, under a lock; readers look at its inode and need no lock.
"""

from __future__ import annotations

import json
import os

from containers.addresses import pack
from containers.errors import NetworkError
from containers.switchpin import locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def add_names(
    run: str, network: str, container: str, names: Iterable[str], addresses: Iterable[str], *, called: str = ""
) -> None:
    """Tell a network's containers the names of one of them; the first is the one that its addresses lead to.

    called: the network's own name, which may stand behind: "web.front". Replaces what was said of the container.
    """
    entry = {"names": [name.lower() for name in names], "addresses": list(addresses)}
    _change(run, network, container, entry, called)


def drop_names(run: str, network: str, container: str) -> None:
    """The opposite; nothing when there are none."""
    _change(run, network, container, None, "")


def keep_names(run: str, network: str, containers: Iterable[str]) -> None:
    """Drop the names of all others: of what was killed."""
    known = set(containers)
    lock = locked(f"{run}/switch/names.lock")
    try:
        document = _read(_path(run, network))
        document["containers"] = {key: value for key, value in document["containers"].items() if key in known}
        _write(_path(run, network), document)
    finally:
        os.close(lock)


def remove_file(run: str, network: str) -> None:
    """Of a network that is gone."""
    try:
        os.unlink(_path(run, network))
    except FileNotFoundError:
        return


class NameTable:
    """The names of one network as they are now, read again when the file is another."""

    def __init__(self, run: str, network: str) -> None:
        self._path = _path(run, network)
        self._stamp: tuple[int, int] = (0, 0)
        self._names: dict[str, list[bytes]] = {}
        self._addresses: dict[bytes, str] = {}

    def addresses(self, name: str) -> list[bytes] | None:
        """The addresses of a name, which is in lower case; None when nobody is called so."""
        self._look()
        return self._names.get(name)

    def name(self, address: bytes) -> str | None:
        """Who has an address."""
        self._look()
        return self._addresses.get(address)

    def _look(self) -> None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self._stamp, self._names, self._addresses = (0, 0), {}, {}
            return
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp == self._stamp:
            return
        document = _read(self._path)
        self._names, self._addresses = {}, {}
        called = document["network"]
        for container in document["containers"].values():
            packed = [pack(text) for text in container["addresses"]]
            for name in container["names"]:
                for each in (name, f"{name}.{called}") if called else (name,):
                    self._names.setdefault(each, []).extend(packed)
            if container["names"]:
                first = container["names"][0]
                self._addresses.update(dict.fromkeys(packed, f"{first}.{called}" if called else first))
        self._stamp = stamp


def _change(run: str, network: str, container: str, entry: Any, called: str) -> None:
    lock = locked(f"{run}/switch/names.lock")
    try:
        document = _read(_path(run, network))
        if entry is None:
            if document["containers"].pop(container, None) is None:
                return
        else:
            document["containers"][container] = entry
            document["network"] = called.lower() or document["network"]
        _write(_path(run, network), document)
    finally:
        os.close(lock)


def _path(run: str, network: str) -> str:
    if "/" in network or network.startswith("."):
        raise NetworkError(f"{network!r} is no ID of a network")
    return f"{run}/switch/{network}.names"


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"network": "", "containers": {}}


def _write(path: str, document: Any) -> None:
    """RUN is a tmpfs: what is renamed is whole, and nothing outlives a boot."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.rename(f"{path}.new", path)
