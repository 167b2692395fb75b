"""The image of a new container: one that is here, or is fetched first."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.transfers import find_or_pull
from core.platforms import Platform
from core.references import Reference

if TYPE_CHECKING:
    from images.store import Store
    from images.summary import Image


def ready_image(
    store: Store, name: str, *, policy: str, platform: Platform | None, root: str | None, insecure: Sequence[str]
) -> Image:
    """The image, pulled as the value of ``--pull`` says. Raises ImageNotFoundError, RegistryError.

    policy: always, missing or never. root, insecure: values of ``--root`` and ``--insecure-registry``.
    """
    from images.errors import ImageNotFoundError

    if policy == "never":
        return store.images.resolve(name, platform)
    if policy == "always":
        return _pulled(store, name, platform, root, insecure)
    if platform is None:
        return find_or_pull(store, name, root, insecure)
    try:
        return store.images.resolve(name, platform)
    except ImageNotFoundError:
        return _pulled(store, name, platform, root, insecure)


def _pulled(store: Store, name: str, platform: Platform | None, root: str | None, insecure: Sequence[str]) -> Image:
    from contextlib import ExitStack

    from cli.registry import open_client, transfers_on_stderr
    from cli.signals import cancelling
    from registry.client import pull

    cancelled = threading.Event()
    with ExitStack() as stack:
        client = stack.enter_context(open_client(root, insecure, cancelled))
        stack.enter_context(cancelling(cancelled, at_once=client.close))
        display = stack.enter_context(transfers_on_stderr())
        reference = Reference.parse(name).with_default_tag()
        return pull(reference, store, client=client, platform=platform, monitor=display).image
