"""The nursery's eye on the switch: its way out is made again when it is lost, and it hears of the host's addresses.

``nft flush ruleset`` is a habit of administrators, and pasta can be killed. What goes on within the switch notices
neither; what goes out waits until the way is back, some ten milliseconds later.
"""

from __future__ import annotations

import os

from containers import switchway
from containers.addresses import pack
from containers.errors import NetworkError
from containers.resolvers import all_nameservers, host_resolv_conf
from containers.switch import Switch, open_switch
from containers.switchpin import pinned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from containers.keeper.loop import Loop, Timer
    from containers.netlink import Netlink
    from containers.nftwire import Nft

_PAUSE_S = 0.02  # changes come in crowds
_RETRY_S = 1.0


class WayGuard:
    """Watches the switch of an engine, from when there is one. run: of the engine."""

    def __init__(self, loop: Loop, run: str) -> None:
        self._loop = loop
        self._run = run
        self._switch: Switch | None = None
        self._watched: tuple[Nft | Netlink, ...] = ()
        self._next: Timer | None = None

    def look(self) -> None:
        """Begin to watch, if there is a switch by now. That it cannot be watched costs nothing but that."""
        if self._switch is not None or not os.path.exists(f"{self._run}/switch/way"):
            return
        pin = pinned(f"{self._run}/switch")
        if pin < 0:
            return
        os.close(pin)
        try:
            self._switch = open_switch(self._run, watch=True)
            self._watched = switchway.watch(self._switch)
        except (NetworkError, OSError):
            self.close()
            return
        self._loop.watch(self._switch.host.fileno(), self._addresses_changed)
        for each in self._watched:
            self._loop.watch(each.fileno(), lambda each=each: self._changed(each))  # type: ignore[misc]

    def close(self) -> None:
        """Watch no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for each in self._watched:
            self._loop.unwatch(each.fileno())
            each.close()
        self._watched = ()
        if self._switch is not None:
            self._loop.unwatch(self._switch.host.fileno())
            self._switch.close()
            self._switch = None

    def _changed(self, heard: Nft | Netlink) -> None:
        heard.drain()
        if self._next is None:
            self._next = self._loop.later(_PAUSE_S, self._mend)

    def _mend(self) -> None:
        self._next = None
        if self._switch is None:
            return
        if not os.path.exists(f"{self._run}/switch/net"):
            self.close()  # the engine has removed it
            return
        try:
            switchway.ensure_way(self._run, self._switch)
        except (NetworkError, OSError):
            self._next = self._loop.later(_RETRY_S, self._mend)

    def _addresses_changed(self) -> None:
        assert self._switch is not None
        self._switch.host.drain()
        self._switch.refresh(pack(address) for address in all_nameservers(host_resolv_conf()))
