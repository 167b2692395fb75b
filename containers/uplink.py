"""The life of the network hub: started when first needed, waited for, lost, started again."""

from __future__ import annotations

import os

from containers import network, syscalls
from containers.errors import NetworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.events import Watching
    from containers.nftwire import Nft


class Uplink:
    """The launcher's hub: at most one at a time.

    denied: as Hub's.
    way: as Hub's.
    changed: called with None when a hub became ready, with the error when it failed or was lost; to be set before the
    loop's next step.
    """

    changed: Callable[[NetworkError | None], None]

    def __init__(self, loop: Watching, folder: str, denied: tuple[str, ...], way: str = "auto") -> None:
        self._loop = loop
        self._folder = folder
        self._denied = denied
        self._way = way
        self._tables: Nft | None = None
        self._count = 0
        self._hub: network.Hub | None = None

    @property
    def ready(self) -> bool:
        return self._hub is not None and self._hub.ready

    def start(self) -> None:
        """Begin to make the hub unless there is one; ``changed`` tells the outcome. Raises NetworkError."""
        if self._hub is not None:
            return
        self._count += 1
        folder = f"{self._folder}/hub{self._count}"
        os.makedirs(folder)
        hub = network.Hub(folder, self._denied, self._way)
        self._hub = hub
        self._loop.watch(hub.host.fileno(), self._on_addresses)
        try:
            for pid in hub.starting:
                self._watch_process(pid)
        except OSError:
            self._lose(hub)
            raise

    def stop(self) -> None:
        """Have its processes end; nothing is connected any more. The kernel takes some 20 ms to take pasta apart."""
        if self._hub is not None:
            _kill(self._hub)

    def connect(self, pid: int) -> tuple[int, int, int, int, bytes, bytes]:
        """Give the network namespace of process ``pid`` an interface; what ``setup.configure_network`` is to know."""
        assert self._hub is not None
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._hub.connect(netns)
        finally:
            os.close(netns)

    def resolv_conf(self) -> str:
        """The contents of /etc/resolv.conf for what is connected."""
        assert self._hub is not None
        return self._hub.resolv_conf()

    def _watch_process(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        self._loop.watch(pidfd, lambda: self._on_process(pid, pidfd))

    def _watch_tables(self, hub: network.Hub) -> None:
        """``nft flush ruleset`` is a habit of administrators, and would cut off what goes by the kernel."""
        from containers.nftwire import Nft

        tables = Nft(watch=True)
        self._tables = tables
        self._loop.watch(tables.fileno(), lambda: self._on_tables(hub, tables))

    def _on_tables(self, hub: network.Hub, tables: Nft) -> None:
        tables.drain()
        try:
            hub.tables_changed()
        except (NetworkError, OSError) as error:
            self._lose(hub)
            self.changed(NetworkError(f"cannot keep the kernel's way out: {error}"))

    def _on_addresses(self) -> None:
        assert self._hub is not None
        try:
            update = self._hub.addresses_changed()
        except (NetworkError, OSError) as error:
            hub = self._hub
            self._lose(hub)
            self.changed(NetworkError(f"cannot keep the host's addresses unreachable: {error}"))
            return
        if update is not None:
            self._watch_process(update)

    def _on_process(self, pid: int, pidfd: int) -> None:
        """nft or pasta ended. During a start that is a step forward or a failure; later the hub is lost."""
        _pid, status = os.waitpid(pid, 0)
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        hub = self._hub
        if hub is None or (pid not in hub.starting and pid != hub.daemon):
            return
        was_ready = hub.ready
        try:
            if pid == hub.daemon:
                raise NetworkError("pasta, which connects containers to the network, has ended", hint="see `dmesg`")
            another = hub.ended(pid, status)
            if another is not None:
                self._watch_process(another)
            if hub.is_kernels and self._tables is None:
                self._watch_tables(hub)
            if hub.ready and not was_ready and hub.daemon:
                self._watch_process(hub.daemon)
        except (NetworkError, OSError) as error:
            self._lose(hub)
            told = error if isinstance(error, NetworkError) else NetworkError(f"cannot keep the network: {error}")
            self.changed(told)
            return
        if hub.ready and not was_ready:
            self.changed(None)

    def _lose(self, hub: network.Hub) -> None:
        self._hub = None
        self._loop.unwatch(hub.host.fileno())
        if self._tables is not None:
            self._loop.unwatch(self._tables.fileno())
            self._tables.close()
            self._tables = None
        _kill(hub)
        hub.close()


def _kill(hub: network.Hub) -> None:
    for pid in (*hub.starting, hub.daemon):
        if pid:
            try:
                os.kill(pid, syscalls.SIGKILL)
            except ProcessLookupError:
                continue
