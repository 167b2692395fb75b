"""The options of ``run`` and ``create``, docker's, declared once. Their values go to ``body`` by keyword.

Those in ``PLAIN_OPTIONS`` are all that a container in the foreground can have that leaves nothing behind: the launcher
runs it, and starts faster than any engine. Any other one makes a container of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.declared import Option
from cli.limits import CONTAINER_OPTIONS

PLAIN_OPTIONS: Final = (
    Option(("--rm",), "Remove the container when it ends.", flag=True),
    Option(("-i", "--interactive"), "Pass standard input, or keep it open.", flag=True),
    Option(("-t", "--tty"), "Give it a terminal.", flag=True),
    Option(("-e", "--env"), "Set a variable; without =VALUE, ours.", metavar="NAME[=VALUE]", multiple=True),
    Option(("--env-file",), "Set the variables in this file.", metavar="FILE", dest="env_files", multiple=True),
    Option(("-w", "--workdir"), "The working directory.  [default: the image's]", metavar="DIR"),
    Option(("-u", "--user"), "The user, by name or number.  [default: the image's]", metavar="USER[:GROUP]"),
    Option(("--entrypoint",), "Run this instead of the image's ENTRYPOINT; '' for none.", metavar="PROGRAM"),
    Option(("--network", "--net"), "default, none, host, or a network.", metavar="NETWORK", dest="network",
           multiple=True),
    Option(("--add-host",), "Add a line to /etc/hosts.", metavar="HOST:IP", dest="add_hosts", multiple=True),
    Option(("-h", "--hostname"), "The container's host name.", metavar="NAME"),
    Option(("--pull",), "Ask the registry first: always, missing or never.", default="missing",
           choices=("always", "missing", "never")),
    Option(("-q", "--quiet"), "No progress of the pull.", flag=True),
    Option(("--platform",), "Of an image for several.", metavar="OS/ARCH[/VARIANT]"),
    *CONTAINER_OPTIONS,
)  # fmt: skip

LIFE_OPTIONS: Final = (
    Option(("--name",), "The container's name.  [default: made up]", metavar="NAME"),
    Option(("--restart",), "Start it again: no, on-failure[:N], always or unless-stopped.", metavar="POLICY"),
    Option(("--init",), "A small init is process 1, and reaps.", flag=True),
    Option(("--stop-signal",), "What asks it to stop.  [default: the image's, SIGTERM]", metavar="SIGNAL"),
    Option(("--stop-timeout",), "Seconds from that to SIGKILL.  [default: 10]", metavar="SECONDS", integer=True),
    Option(("--health-cmd",), "A shell command that says whether it is healthy.", metavar="COMMAND"),
    Option(("--health-interval",), "Time between two checks, as in 30s.", metavar="TIME"),
    Option(("--health-timeout",), "How long a check may take.", metavar="TIME"),
    Option(("--health-start-period",), "Checks that fail within it do not count.", metavar="TIME"),
    Option(("--health-start-interval",), "Time between two checks within it.", metavar="TIME"),
    Option(("--health-retries",), "So many failures make it unhealthy.", metavar="NUMBER", integer=True),
    Option(("--no-healthcheck",), "None, also where the image has one.", flag=True),
    Option(("-l", "--label"), "Set a label.", metavar="NAME[=VALUE]", dest="labels", multiple=True),
    Option(("--label-file",), "Set the labels in this file.", metavar="FILE", dest="label_files", multiple=True),
    Option(("--annotation",), "Set an annotation.", metavar="NAME=VALUE", multiple=True),
    Option(("--cidfile",), "Write the container's ID to this file.", metavar="FILE"),
    Option(("-a", "--attach"), "Attach only this: stdin, stdout or stderr.", metavar="STREAM", multiple=True),
    Option(("--detach-keys",), "Keys that detach the terminal.  [default: ctrl-p,ctrl-q]", metavar="KEYS"),
    Option(("--log-driver",), "json-file, local or none.", metavar="DRIVER"),
    Option(("--log-opt",), "An option of it: max-size, max-file.", metavar="NAME=VALUE", multiple=True),
    Option(("--domainname",), "The container's domain.", metavar="NAME"),
)  # fmt: skip

NETWORK_OPTIONS: Final = (
    Option(("-p", "--publish"), "Publish a port.", metavar="[IP:][PORT:]PORT[/PROTOCOL]", multiple=True),
    Option(("-P", "--publish-all"), "Publish all exposed ports at free ones.", flag=True),
    Option(("--expose",), "Expose a port, or a range.", metavar="PORT[/PROTOCOL]", multiple=True),
    Option(("--network-alias", "--net-alias"), "Another name in its network.", metavar="NAME", dest="network_alias",
           multiple=True),
    Option(("--link",), "A name for another container.", metavar="CONTAINER[:ALIAS]", multiple=True),
    Option(("--ip",), "Its IPv4 address.", metavar="ADDRESS"),
    Option(("--ip6",), "Its IPv6 address.", metavar="ADDRESS"),
    Option(("--link-local-ip",), "A link-local address.", metavar="ADDRESS", multiple=True),
    Option(("--mac-address",), "Its MAC address.", metavar="ADDRESS"),
    Option(("--dns",), "Ask this DNS server.", metavar="ADDRESS", multiple=True),
    Option(("--dns-search",), "A domain to search in.", metavar="DOMAIN", multiple=True),
    Option(("--dns-option", "--dns-opt"), "An option of the resolver.", metavar="OPTION", dest="dns_option",
           multiple=True),
)  # fmt: skip

STORAGE_OPTIONS: Final = (
    Option(("-v", "--volume"), "Mount a volume or a directory.", metavar="[SOURCE:]DIR[:OPTIONS]", dest="volumes",
           multiple=True),
    Option(("--mount",), "Mount something.", metavar="type=TYPE,…", dest="mounts", multiple=True),
    Option(("--tmpfs",), "Mount a tmpfs.", metavar="DIR[:OPTIONS]", multiple=True),
    Option(("--volumes-from",), "Mount what this container has mounted.", metavar="CONTAINER", multiple=True),
    Option(("--volume-driver",), "The driver of volumes that are made.", metavar="DRIVER"),
    Option(("--read-only",), "Its root file system is read-only.", flag=True),
    Option(("--storage-opt",), "An option of its storage.", metavar="NAME=VALUE", multiple=True),
)  # fmt: skip

PRIVILEGE_OPTIONS: Final = (
    Option(("--privileged",), "All capabilities of its user namespace.", flag=True),
    Option(("--cap-add",), "Add a capability.", metavar="NAME", multiple=True),
    Option(("--cap-drop",), "Take a capability away.", metavar="NAME", multiple=True),
    Option(("--security-opt",), "As in no-new-privileges.", metavar="OPTION", multiple=True),
    Option(("--device",), "Give it a device.", metavar="PATH[:PATH][:rwm]", dest="devices", multiple=True),
    Option(("--device-cgroup-rule",), "A rule for devices.", metavar="RULE", multiple=True),
    Option(("--gpus",), "Give it GPUs.", metavar="REQUEST", multiple=True),
    Option(("--group-add",), "Another group of its user.", metavar="GROUP", multiple=True),
    Option(("--sysctl",), "Set a sysctl of its namespaces.", metavar="NAME=VALUE", multiple=True),
    Option(("--ipc",), "Whose IPC namespace it has.", metavar="MODE", default=""),
    Option(("--pid",), "Whose PID namespace it has.", metavar="MODE", default=""),
    Option(("--uts",), "Whose UTS namespace it has.", metavar="MODE", default=""),
    Option(("--userns",), "Whose user namespace it has.", metavar="MODE", default=""),
    Option(("--cgroupns",), "Whose control group namespace it has.", metavar="MODE", default=""),
    Option(("--cgroup-parent",), "Its control group's parent.", metavar="PATH", default=""),
    Option(("--runtime",), "What runs it.", metavar="NAME", default=""),
    Option(("--isolation",), "Refused: it is for Windows.", metavar="NAME", default=""),
    Option(("--disable-content-trust",), "Accepted: there is no content trust to leave out.", flag=True),
)  # fmt: skip

MORE_LIMITS: Final = (
    Option(("--memory-reservation",), "Memory that it keeps when memory is short.", metavar="SIZE", default=""),
    Option(("--memory-swappiness",), "0 to 100.", metavar="NUMBER", default=-1, integer=True),
    Option(("--oom-kill-disable",), "No process is ended for want of memory.", flag=True),
    Option(("--oom-score-adj",), "-1000 to 1000.", metavar="NUMBER", default=0, integer=True),
    Option(("--cpuset-cpus",), "Processors that it may use, as in 0-3.", metavar="LIST", default=""),
    Option(("--cpuset-mems",), "Memory nodes that it may use.", metavar="LIST", default=""),
    Option(("--blkio-weight",), "10 to 1000, or 0.", metavar="WEIGHT", default=0, integer=True),
    Option(("--blkio-weight-device",), "The weight at one device.", metavar="PATH:WEIGHT", multiple=True),
    Option(("--device-read-bps",), "Bytes a second.", metavar="PATH:RATE", multiple=True),
    Option(("--device-write-bps",), "Bytes a second.", metavar="PATH:RATE", multiple=True),
    Option(("--device-read-iops",), "Operations a second.", metavar="PATH:RATE", multiple=True),
    Option(("--device-write-iops",), "Operations a second.", metavar="PATH:RATE", multiple=True),
    Option(("--kernel-memory",), "Refused: kernels have no such limit any more.", metavar="SIZE", default=""),
    Option(("--cpu-rt-period",), "Refused: no real-time scheduling.", metavar="US", default=0, integer=True),
    Option(("--cpu-rt-runtime",), "Refused: no real-time scheduling.", metavar="US", default=0, integer=True),
    Option(("--cpu-count",), "Refused: it is for Windows.", metavar="NUMBER", default=0, integer=True),
    Option(("--cpu-percent",), "Refused: it is for Windows.", metavar="NUMBER", default=0, integer=True),
    Option(("--io-maxbandwidth",), "Refused: it is for Windows.", metavar="SIZE", default=""),
    Option(("--io-maxiops",), "Refused: it is for Windows.", metavar="NUMBER", default=0, integer=True),
)  # fmt: skip

ENGINE_OPTIONS: Final = (*LIFE_OPTIONS, *NETWORK_OPTIONS, *STORAGE_OPTIONS, *PRIVILEGE_OPTIONS, *MORE_LIMITS)
CREATE_OPTIONS: Final = (*PLAIN_OPTIONS, *ENGINE_OPTIONS)

_CHANGEABLE: Final = (
    "memory", "memory_swap", "cpus", "cpu_period", "cpu_quota", "cpu_shares", "pids_limit", "memory_reservation",
    "cpuset_cpus", "cpuset_mems", "blkio_weight", "restart", "cpu_rt_period", "cpu_rt_runtime", "kernel_memory",
)  # fmt: skip
UPDATE_OPTIONS: Final = tuple(option for option in CREATE_OPTIONS if option.destination in _CHANGEABLE)

_LAUNCHERS_NETWORKS: Final = ((), ("default",), ("bridge",), ("none",), ("host",))


def needs_engine(options: Mapping[str, Any]) -> bool:
    """Whether a container in the foreground has to be the engine's. options: values by name, of CREATE_OPTIONS."""
    return (
        any(options[option.destination] != option.unset for option in ENGINE_OPTIONS)
        or tuple(options["network"]) not in _LAUNCHERS_NETWORKS
        or any(text.endswith(":host-gateway") for text in options["add_hosts"])
    )
