"""A process in its own namespaces, on a root filesystem made of layers.

What lives here: system calls under the kernel's own names, mounts as data, the launcher (a single-threaded helper
process that forks containers) and its client, the network hub, cgroups, user look-up, the host's probes. What may not:
Dockerfiles, images, registries; a root filesystem is given as ``core.rootfs`` layers and nothing more is known of it.

Two kinds of module. ``spec``, ``launcher``, ``errors``, ``reclaim`` and ``doctor`` are the client's side. ``server``,
``setup``, ``mounts``, ``network``, ``netlink``, ``cgroups``, ``idmap``, ``users``, ``wire`` and ``syscalls`` are loaded
by the launcher process, whose start is on a build's critical path: they import built-in or tiny modules only (no
dataclasses, typing, socket, signal, subprocess; measured in docs/decisions/0002-launcher-and-network-hub.md).
"""
