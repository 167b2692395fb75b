"""The OCI distribution protocol: a client (pull, push, login) and a server (``/v2/``). Knows nothing of builds."""

from __future__ import annotations

from typing import Final

OURS_HEADER: Final = "Shiplap-Registry"
"""Every answer of our server has it. Our client then mounts without naming a source: a blob that the server's store has
is not sent. It also sends small blobs with the request that begins their upload. Both are in the specification, but
some registries fail at the one, and most do not know the other.
"""
