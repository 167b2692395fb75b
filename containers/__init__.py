"""A process in its own namespaces, on a root filesystem made of layers.

What lives here: system calls under the kernel's own names, mounts as data, the launcher (a single-threaded helper
process that forks containers) and its client, the network hub, cgroups, user look-up, the host's probes. What may not:
Dockerfiles, images, registries; a root filesystem is given as ``core.rootfs`` layers and nothing more is known of it.

Two kinds of module. ``spec``, ``launcher``, ``errors``, ``reclaim`` and ``doctor`` are the client's side, with
``probes``, the main program of doctor's process. ``confined`` is a program by itself. The launcher
process is ``server`` (its main program), ``guests`` (the containers), ``setup`` (what a container's first process
does), ``uplink`` and ``network`` with ``netlink``, ``rootfs``, ``mounts`` and ``stubs``, ``cgroups`` with
``hierarchies`` and ``delegation``, ``idmap``, ``users``, ``capabilities``, ``events``, ``wire`` and ``syscalls``. Its
start is on a build's critical path, so these import built-in or tiny modules only: no dataclasses, typing, socket,
signal or subprocess (see docs/decisions/0002-launcher-and-network-hub.md).
"""
