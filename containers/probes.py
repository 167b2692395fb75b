"""The main program of `shiplap doctor`'s process: tries one thing after another, and prints each finding.

It has one thread, as ``clone3`` asks. It prints lines of JSON: ["trying", NAME] before each, ["found", FINDING] after.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from containers import cgroups, delegation, idmap, kernelway, lasting, mounts, programs, seccomp, syscalls
from containers.errors import ContainerError, NamespaceError, NetworkError, SeccompError
from containers.hierarchies import Hierarchy, make_room, own_hierarchies
from containers.launcher import Launcher
from containers.rootfs import mount_erofs
from containers.rootless import become_root
from containers.spec import ContainerSpec, Network
from core import filesystems
from core.namespaces import is_initial

_NAMESPACES = (
    ("user", syscalls.CLONE_NEWUSER),
    ("mount", syscalls.CLONE_NEWNS),
    ("pid", syscalls.CLONE_NEWPID),
    ("network", syscalls.CLONE_NEWNET),
    ("uts", syscalls.CLONE_NEWUTS),
    ("ipc", syscalls.CLONE_NEWIPC),
    ("cgroup", syscalls.CLONE_NEWCGROUP),
)
_LIMITING = frozenset({"cpu", "memory", "pids"})  # what there are limits of
_NAMESPACE_REMEDY = (
    "check sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and"
    " kernel.apparmor_restrict_unprivileged_userns; inside a container, give it the privilege"
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a probe found.

    detail, remedy: see ``doctor.Finding``.
    """

    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Probe:
    """Something to try. essential: see ``doctor.Finding``."""

    name: str
    attempt: Callable[[], _Outcome]
    essential: bool = True


def main(folder: str) -> None:
    """Try everything. folder: an absent directory for that, on the file system that matters; it is absent afterwards.

    Without root, this process becomes root of a user namespace first, as builds do.
    """
    for probe in _privileges():
        _try(probe)
    place = Path(folder)
    try:
        place.mkdir(mode=0o700)
        try:
            for probe in _probes(place):
                _try(probe)
        finally:
            shutil.rmtree(place)
    except OSError as error:
        detail = f"cannot write to {place.parent}: {error.strerror}"
        _try(_Probe("root directory", lambda: _Outcome(False, detail, "choose --root DIR")))


def _try(probe: _Probe) -> None:
    _print("trying", probe.name)
    outcome = probe.attempt()
    _print("found", dataclasses.asdict(outcome) | {"name": probe.name, "essential": probe.essential})


def _print(kind: str, value: object) -> None:
    os.write(1, json.dumps([kind, value]).encode() + b"\n")


def _privileges() -> Iterator[_Probe]:
    yield _Probe("privileges", _root)
    for name, flag in _NAMESPACES:
        yield _Probe(f"{name} namespace", functools.partial(_namespace, flag))


def _root() -> _Outcome:
    uid = os.geteuid()
    try:
        become_root()
    except NamespaceError as error:
        return _Outcome(False, f"user {uid}: {error.message}", error.hint or "run as root")
    return _Outcome(True, f"user {uid}, as root of a user namespace" if uid else "root")


def _probes(folder: Path) -> Iterator[_Probe]:
    yield _Probe("file system of the root", lambda: _filesystem(folder.parent))
    is_root = os.geteuid() == 0  # else "privileges" has said what to do first
    if is_root:
        yield _Probe("overlay in a user namespace", _overlay)
    if is_root and is_initial():  # in a user namespace the IDs on disk are the containers' own
        yield _Probe("idmapped mounts", lambda: _idmapped(folder))
    erofs_purpose = "layers are indexed in place instead of unpacked"
    yield _Probe("mkfs.erofs", lambda: _program("mkfs.erofs", erofs_purpose), essential=False)
    if is_root:
        yield _Probe("EROFS from a file", lambda: _erofs(folder), essential=False)
    yield _Probe("cgroups", _cgroups, essential=False)
    yield _Probe("system call filter", _filter)
    yield _Probe("pasta", lambda: _networks("pasta", "connects containers to the network"))
    yield _Probe("nft", lambda: _networks("nft", "separates containers from the host and each other"))
    if is_root and is_initial():
        yield _Probe("kernel's way out", _kernels_way, essential=False)
    if is_root:
        yield _Probe("container", lambda: _container(folder, "none"))
        yield _Probe("container network", lambda: _container(folder, "default"))
        yield _Probe("clients of published ports", lambda: _Outcome(*lasting.transparent()), essential=False)
    if is_root and not is_initial():
        yield _Probe("user's manager", lambda: _Outcome(*lasting.manager()), essential=False)
        yield _Probe("lingering", lambda: _Outcome(*lasting.lingering()), essential=False)


def _attempt(flags: int, work: Callable[[], None]) -> str:
    """Do ``work`` in a new process with new namespaces (clone flags); the error's text, empty when it went well."""
    reader, writer = os.pipe()
    try:
        try:
            pid = syscalls.clone3(flags)
        except OSError as error:
            return error.strerror or str(error)
        if pid == 0:
            try:
                os.read(reader, 1)  # until the parent has written the ID maps
                work()
                os._exit(0)
            except OSError as error:
                os.write(writer, f"{error}".encode())
            finally:
                os._exit(1)
        try:
            if flags & syscalls.CLONE_NEWUSER and os.geteuid() == 0:
                idmap.write_maps(pid, idmap.host_ranges())
        except ContainerError as error:
            return error.message
        finally:
            os.write(writer, b"x")
            _pid, status = os.waitpid(pid, 0)
        os.set_blocking(reader, False)
        try:
            said = os.read(reader, 4096).decode(errors="replace").removeprefix("x")
        except BlockingIOError:
            said = ""
        return said or ("" if status == 0 else "it failed")
    finally:
        os.close(reader)
        os.close(writer)


def _namespace(flag: int) -> _Outcome:
    error = _attempt(flag if os.geteuid() == 0 else flag | syscalls.CLONE_NEWUSER, lambda: None)
    return _Outcome(not error, error or "works", _NAMESPACE_REMEDY if error else "")


def _overlay() -> _Outcome:
    def work() -> None:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        syscalls.mount("tmpfs", "/dev", "tmpfs", 0, "mode=755")  # a directory that every host has, and open to all
        os.chdir("/dev")
        for name in ("lower", "upper", "upper/fs", "upper/work", "links", "root"):
            os.mkdir(name)
        mounts.overlay(["../lower"], "../upper", "../root", "links")

    error = _attempt(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS, work)
    return _Outcome(not error, error or "works", "Linux 5.11 or newer, modprobe overlay" if error else "")


def _filesystem(root: Path) -> _Outcome:
    unfit = filesystems.why_unfit(str(root))
    detail = unfit or f"{filesystems.kind_of(str(root))} at {root}"
    return _Outcome(not unfit, detail, filesystems.way_out(str(root)) if unfit else "")


def _idmapped(folder: Path) -> _Outcome:
    error = ""
    try:
        userns = idmap.user_namespace(idmap.host_ranges())
        try:
            tree = syscalls.open_tree(syscalls.AT_FDCWD, str(folder), syscalls.OPEN_TREE_CLONE)
            try:
                syscalls.mount_setattr(
                    tree, "", syscalls.AT_EMPTY_PATH, attributes=syscalls.MOUNT_ATTR_IDMAP, userns=userns
                )
            finally:
                os.close(tree)
        finally:
            os.close(userns)
    except (OSError, ContainerError) as failure:
        error = str(failure)
    remedy = f"Linux 5.19 or newer, and a root directory on {filesystems.GOOD_KINDS} instead of {folder.parent}"
    return _Outcome(not error, error or f"work on {folder.parent}", remedy if error else "")


def _program(name: str, purpose: str) -> _Outcome:
    path = shutil.which(name)
    return _Outcome(path is not None, f"{path or 'missing'} ({purpose})", "" if path else "apt-get install erofs-utils")


def _networks(name: str, purpose: str) -> _Outcome:
    """A program that the launcher starts, looked for as it does."""
    path = programs.find_program(name)
    return _Outcome(path is not None, f"{path or 'missing'} ({purpose})", "" if path else programs.remedy(name))


def _kernels_way() -> _Outcome:
    """The faster of the two ways to the outside; without it there is pasta."""
    try:
        kernelway.try_out()
    except (NetworkError, OSError) as error:
        hint = error.hint if isinstance(error, NetworkError) and error.hint else "see docs/networks.md"
        return _Outcome(False, f"{error}; containers send by pasta, which is slower", hint)
    return _Outcome(True, "containers send by the kernel")


def _filter() -> _Outcome:
    try:
        program = seccomp.program()
    except SeccompError as error:
        return _Outcome(False, error.message, error.hint or "a kernel with seccomp filters")
    return _Outcome(True, f"{len(program) // 8} instructions")


def _erofs(folder: Path) -> _Outcome:
    if shutil.which("mkfs.erofs") is None:
        return _Outcome(False, "not tried: needs mkfs.erofs", "apt-get install erofs-utils")
    if not is_initial():
        return _Outcome(False, "not for root of a user namespace", "run as the host's root")
    tar, image, place = folder / "layer.tar", folder / "layer.erofs", folder / "mounted"
    _write_tar(tar)
    place.mkdir()
    try:
        made = subprocess.run(
            ["mkfs.erofs", "--quiet", "--tar=i", "--aufs", str(image), str(tar)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as refusal:  # the program is there, but for another machine or C library
        return _Outcome(False, f"mkfs.erofs cannot be executed: {refusal.strerror}", "apt-get install erofs-utils")
    if made.returncode != 0:
        return _Outcome(False, made.stderr.strip() or "mkfs.erofs failed", "a newer erofs-utils: 1.7 or later")

    def work() -> None:
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        mount_erofs(str(image), str(tar), str(place))
        os.stat(place / "file")

    error = _attempt(syscalls.CLONE_NEWNS, work)
    remedy = "Linux 6.12 or newer, modprobe erofs; until then layers are unpacked, which is slower"
    return _Outcome(not error, error or "works", remedy if error else "")


def _write_tar(path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("file")
        member.size = 4096
        tar.addfile(member, io.BytesIO(bytes(4096)))


def _cgroups() -> _Outcome:
    found = own_hierarchies()
    make_room(found)
    session = cgroups.Session(f"doctor-{os.getpid()}", found)
    try:
        usable = [_shown(hierarchy) for hierarchy in session.hierarchies]
        lacking = _LIMITING.difference(*(hierarchy.controllers for hierarchy in session.hierarchies))
    finally:
        session.close()
    detail = "; ".join(usable) or "none is writable"
    if not lacking:
        return _Outcome(True, detail)
    without = "containers run, but cannot be limited"
    if usable:
        detail += f"; not {', '.join(sorted(lacking))}"
        without = "containers run, but not all their limits can be set"
    return _Outcome(False, detail, f"{delegation.remedy()}; without it {without}")


def _shown(hierarchy: Hierarchy) -> str:
    place = f" below {hierarchy.path}" if hierarchy.is_delegated else ""
    return f"v{hierarchy.version} {','.join(hierarchy.controllers) or '-'}{place}"


def _container(folder: Path, kind: Network) -> _Outcome:
    """Try a whole container: without layers it gets as far as not finding its command."""
    state, upper = folder / f"state-{kind}", folder / f"upper-{kind}"
    for path in (state, upper, upper / "fs", upper / "work"):
        path.mkdir()
    spec = ContainerSpec(layers=(), upper=str(upper), args=("/nothing",), network=kind)
    try:
        with Launcher(state) as launcher, open(os.devnull, "r+b") as null:
            fd = null.fileno()
            status = launcher.start(spec, stdin=fd, stdout=fd, stderr=fd).wait(30)
    except (ContainerError, TimeoutError) as error:
        hint = error.hint if isinstance(error, ContainerError) else None
        return _Outcome(False, str(error), hint or "see the findings above")
    ok = status.code == 127
    return _Outcome(ok, "starts" if ok else f"ended with {status.code}", "" if ok else "see the findings above")
