"""docker's body of ``POST /containers/create``, from the options of ``run`` and ``create``.

What docker's command line makes of the same options is the witness: tests/cli/test_create_body.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.containers import devices, ports, volumes
from cli.containers.health import healthcheck
from cli.containers.networks import link_pairs, networking
from cli.containers.options import CREATE_OPTIONS
from cli.errors import CommandError
from cli.limits import container_limits, resource_limits, size
from cli.options import env_file, environ, host_pairs, pairs

_STREAMS: Final = ("stdin", "stdout", "stderr")
_KEPT: Final = ("MaskedPaths", "ReadonlyPaths", "AttachStdin", "AttachStdout", "AttachStderr", "Image", "StopTimeout")


def create_body(
    image: str, arguments: Sequence[str], options: Mapping[str, Any], *, detached: bool = False
) -> dict[str, Any]:
    """The body. Members that nothing asked for are left out. Raises CommandError.

    options: values by name, of ``options.CREATE_OPTIONS``.
    detached: nothing will be attached from the start on.
    """
    policy = restart_policy(options["restart"])
    if options["rm"] and policy["Name"] not in ("", "no"):
        raise CommandError("Conflicting options: --restart and --rm")
    network_mode, endpoints = networking(options)
    host = {
        **_host(options),
        **_limits(options),
        **devices.security_options(options["security_opt"]),
        "NetworkMode": network_mode,
        "RestartPolicy": policy,
    }
    config = _config(image, arguments, options, detached=detached)
    binds, anonymous = volumes.binds(options["volumes"])
    exposed, bindings = ports.published(options["publish"])
    members = {
        **config,
        "Volumes": anonymous,
        "ExposedPorts": exposed | ports.exposed(options["expose"]),
        "HostConfig": _present({**host, "Binds": binds, "PortBindings": bindings}),
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }
    return _present(members)


def restart_policy(text: str | None) -> dict[str, Any]:
    """docker's RestartPolicy for ``on-failure:3``. Raises CommandError."""
    name, colon, maximum = (text or "no").partition(":")
    if colon and not (maximum.isascii() and maximum.lstrip("-").isdigit()):
        raise CommandError("invalid restart policy format: maximum retry count must be an integer")
    if colon and not name:
        raise CommandError("invalid restart policy format: no policy provided before colon")
    return {"Name": name, "MaximumRetryCount": int(maximum or 0)}


def _config(image: str, arguments: Sequence[str], options: Mapping[str, Any], *, detached: bool) -> dict[str, Any]:
    attached = _attached(options)
    if detached:
        attached = dict.fromkeys(attached, False)
    entrypoint = options["entrypoint"]
    return {
        "Hostname": options["hostname"] or "",
        "Domainname": options["domainname"] or "",
        "User": options["user"] or "",
        **attached,
        "Tty": options["tty"],
        "OpenStdin": options["interactive"],
        "StdinOnce": options["interactive"] and attached["AttachStdin"],
        "Env": _environment(options),
        "Cmd": list(arguments),
        "Image": image,
        "WorkingDir": options["workdir"] or "",
        "Entrypoint": None if entrypoint is None else [entrypoint],
        "Labels": labels(options["labels"], options["label_files"]),
        "StopSignal": options["stop_signal"] or "",
        "StopTimeout": options["stop_timeout"],
        "Healthcheck": healthcheck(options),
    }


def _attached(options: Mapping[str, Any]) -> dict[str, bool]:
    for stream in options["attach"]:
        if stream.lower() not in _STREAMS:
            raise CommandError(
                f'invalid argument "{stream}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
    asked = [stream.lower() for stream in options["attach"]]
    return {
        "AttachStdin": options["interactive"] or "stdin" in asked,
        "AttachStdout": not asked or "stdout" in asked,
        "AttachStderr": not asked or "stderr" in asked,
    }


def _environment(options: Mapping[str, Any]) -> list[str]:
    """``NAME=VALUE``; a bare NAME, which we lack, stands for: not even where the image has it."""
    found: dict[str, str] = {}
    for path in options["env_files"]:
        found |= env_file(path, environ())
    set_here = pairs(options["env"], "-e", environ=environ())
    bare = [text for text in options["env"] if "=" not in text and text not in environ()]
    return [*(f"{name}={value}" for name, value in (found | set_here).items()), *bare]


def labels(values: Sequence[str], files: Sequence[str] = ()) -> dict[str, str]:
    """Labels from ``NAME=VALUE`` and from files of such lines; NAME alone is empty. Raises CommandError, OSError."""
    found: dict[str, str] = {}
    for path in files:
        found |= env_file(path, {})
    return found | pairs(values, "--label")


def _host(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "AutoRemove": options["rm"],
        "Init": True if options["init"] else None,
        "Annotations": pairs(options["annotation"], "--annotation"),
        "LogConfig": _present({"Type": options["log_driver"] or "", "Config": _log_options(options)}),
        "PublishAllPorts": options["publish_all"],
        "Links": link_pairs(options["link"]),
        "Dns": list(options["dns"]),
        "DnsSearch": list(options["dns_search"]),
        "DnsOptions": list(options["dns_option"]),
        "ExtraHosts": [_extra_host(text) for text in options["add_hosts"]],
        "Mounts": [volumes.mount(text) for text in options["mounts"]],
        "Tmpfs": volumes.tmpfs(options["tmpfs"]),
        "VolumesFrom": list(options["volumes_from"]),
        "VolumeDriver": options["volume_driver"] or "",
        "ReadonlyRootfs": options["read_only"],
        "StorageOpt": pairs(options["storage_opt"], "--storage-opt"),
        "Privileged": options["privileged"],
        "CapAdd": list(options["cap_add"]),
        "CapDrop": list(options["cap_drop"]),
        "Devices": [devices.device(text) for text in options["devices"]],
        "DeviceCgroupRules": list(options["device_cgroup_rule"]),
        "DeviceRequests": [devices.gpus(text) for text in options["gpus"]],
        "GroupAdd": list(options["group_add"]),
        "Sysctls": pairs(options["sysctl"], "--sysctl"),
        "IpcMode": options["ipc"],
        "PidMode": _pid_mode(options["pid"]),
        "UTSMode": options["uts"],
        "UsernsMode": options["userns"],
        "CgroupnsMode": options["cgroupns"],
        "CgroupParent": options["cgroup_parent"],
        "Runtime": options["runtime"],
        "Isolation": options["isolation"],
        "ContainerIDFile": options["cidfile"] or "",
        "OomScoreAdj": options["oom_score_adj"],
    }


def _pid_mode(text: str) -> str:
    kind, _, name = text.partition(":")
    if text not in ("", "host") and not (kind == "container" and name):
        raise CommandError("--pid: invalid PID mode")
    return text


def _log_options(options: Mapping[str, Any]) -> dict[str, str]:
    found = pairs(options["log_opt"], "--log-opt")
    if found and options["log_driver"] == "none":
        raise CommandError("invalid logging opts for driver none")
    return found


def _extra_host(text: str) -> str:
    host, _, address = text.partition("=" if "=" in text else ":")
    if address == "host-gateway" and host:
        return f"{host}:{address}"
    return ":".join(host_pairs([text])[0])


def _limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the container may use. ``container_limits`` checks the values that it knows."""
    limits = container_limits(options)
    swappiness = options["memory_swappiness"]
    if not -1 <= swappiness <= 100:
        raise CommandError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    by_rate = {
        "BlkioDeviceReadBps": ("device_read_bps", True),
        "BlkioDeviceWriteBps": ("device_write_bps", True),
        "BlkioDeviceReadIOps": ("device_read_iops", False),
        "BlkioDeviceWriteIOps": ("device_write_iops", False),
    }
    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_swap_bytes,
        "MemoryReservation": size(options["memory_reservation"] or "0", "--memory-reservation"),
        "MemorySwappiness": None if swappiness == -1 else swappiness,
        "OomKillDisable": options["oom_kill_disable"],
        "NanoCpus": round(limits.cpus * 1e9) if options["cpus"] else 0,
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": options["cpu_period"],
        "CpuQuota": options["cpu_quota"],
        "CpusetCpus": options["cpuset_cpus"],
        "CpusetMems": options["cpuset_mems"],
        "PidsLimit": options["pids_limit"],
        "Ulimits": [
            {"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in resource_limits(options["ulimits"])
        ],
        "ShmSize": size(options["shm_size"], "--shm-size") if options["shm_size"] else 0,
        "KernelMemory": size(options["kernel_memory"] or "0", "--kernel-memory"),
        "CpuRealtimePeriod": options["cpu_rt_period"],
        "CpuRealtimeRuntime": options["cpu_rt_runtime"],
        "CpuCount": options["cpu_count"],
        "CpuPercent": options["cpu_percent"],
        "IOMaximumBandwidth": size(options["io_maxbandwidth"] or "0", "--io-maxbandwidth"),
        "IOMaximumIOps": options["io_maxiops"],
        "BlkioWeight": options["blkio_weight"],
        "BlkioWeightDevice": [devices.weight(text) for text in options["blkio_weight_device"]],
        **{
            member: [devices.rate(text, "--" + option.replace("_", "-"), in_bytes=in_bytes) for text in options[option]]
            for member, (option, in_bytes) in by_rate.items()
        },
    }


def changed_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of docker's ``POST /containers/ID/update``: what was asked for. options: of ``UPDATE_OPTIONS``."""
    unset = {option.destination: option.unset for option in CREATE_OPTIONS}
    policy = {"RestartPolicy": restart_policy(options["restart"])} if options["restart"] else {}
    return _present({**_limits({**unset, **options}), **policy})


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty, zero, false or nothing: docker takes these for what was not asked for."""
    return {name: value for name, value in members.items() if value or (name in _KEPT and value is not None)}
