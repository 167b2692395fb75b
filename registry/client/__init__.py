"""The client of the distribution protocol: pull, push, login.

A ``Client`` is opened for a command and passed to the functions. What goes over the network goes through a
``Transport`` (http.py), so that tests can put any fault there.

    config = ClientConfig.load(RegistrySettings.from_environ(), store.root)
    with Client(config) as client:
        image = pull(Reference.parse("debian:12"), store, client=client).image
"""

from __future__ import annotations

from registry.client.client import Client
from registry.client.config import ClientConfig
from registry.client.lazy import RegistryLayers
from registry.client.logins import LoggedIn, login, logout, registry_domain, verify
from registry.client.monitor import (
    FINAL_STATES,
    LayerProgress,
    NullTransferMonitor,
    State,
    StepTransferMonitor,
    TransferMonitor,
)
from registry.client.pulling import Pulled, pull
from registry.client.pushing import Pushed, push
from registry.client.referrers import referrers_of
from registry.client.retrying import RetryPolicy
from registry.client.showing import shown_to_anybody

__all__ = [
    "FINAL_STATES",
    "Client",
    "ClientConfig",
    "LayerProgress",
    "LoggedIn",
    "NullTransferMonitor",
    "Pulled",
    "Pushed",
    "RegistryLayers",
    "RetryPolicy",
    "State",
    "StepTransferMonitor",
    "TransferMonitor",
    "login",
    "logout",
    "pull",
    "push",
    "referrers_of",
    "registry_domain",
    "shown_to_anybody",
    "verify",
]
