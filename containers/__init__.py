"""A process in its own namespaces, on a root filesystem made of layers.

What lives here: system calls under the kernel's own names, mounts as data, the launcher (a single-threaded helper
process that forks containers) and its client, the network hub, cgroups, user look-up, the host's probes. What may not:
Dockerfiles, images, registries; a root filesystem is given as ``core.rootfs`` layers and nothing more is known of it.

The modules are:

- The client's side: ``spec``, ``launcher``, ``errors``, ``reclaim`` and ``doctor``, with ``probes``, the main program
  of doctor's process.
- A program by itself: ``confined``.
- The launcher process: ``server`` is its main program, ``guests`` has the containers, ``joiners`` what clients bring
  into them, ``segment`` the networks that a few of them share.
- The street ``keeper``: containers that live on, each with a process of its own (see there).
- What both do: ``birth`` makes a container's first process, ``setup`` is what that does, ``becoming`` its last steps,
  which a process that joins a container takes, too:
  ``joining`` brings it there. They use ``uplink`` and ``network`` with ``kernelway``,
  ``netlink``, ``programs`` and ``subnets``, ``rootfs``, ``mounts`` and ``stubs``, ``cgroups`` with ``hierarchies`` and
  ``delegation``, ``idmap``, ``users``, ``capabilities``, ``events``, ``wire`` and ``syscalls``.
- The switch, which containers that live on are connected by: ``switch`` with ``switchpin``, ``switchrules`` and
  ``switchway``, ``endpoints``, ``interfaces``, ``addresses``, ``nftwire`` and ``netspaces``. Whoever needs it opens it.

The launcher's start is on a build's critical path, so the modules of its process import built-in or tiny modules only:
no dataclasses, typing, socket, signal or subprocess (see docs/decisions/0002-launcher-and-network-hub.md).
"""
