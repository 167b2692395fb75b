"""A virtual machine that boots from ``making``'s disk, and does what it is told by its agent.

By KVM where that boots Debian's kernel, which it does not on every host that is a virtual machine itself; else by
qemu's own translation, some thirty times slower. All time-outs are for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.machine.making import Disk
from tests.toolkit.bounds import Deadline

_BOOT_S: Final = 900.0
_KVM_BOOT_S: Final = 60.0
_COMMAND_S: Final = 600.0
_APPEND: Final = "root=/dev/vda rw console=ttyS0 systemd.show_status=0"


class Done(NamedTuple):
    """What became of a command: its exit code, and what it printed, without the last line feed."""

    code: int
    said: str


class NoMachine(Exception):
    """It did not boot."""


class Machine:
    """One machine. work: for its sockets and its console's log."""

    def __init__(self, disk: Disk, work: Path, accelerator: str) -> None:
        self._work = work
        self._number = 0
        self._rest = b""
        arguments = ["-accel", accelerator, "-cpu", "max", "-smp", str(os.cpu_count() or 1), "-m", "2048"]
        arguments += ["-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", _APPEND]
        arguments += ["-drive", f"file={disk.image},format=raw,if=virtio,cache=writeback"]
        arguments += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=c,name=commands"]
        arguments += ["-chardev", f"socket,id=c,path={work}/commands,server=on,wait=off"]
        arguments += ["-qmp", f"unix:{work}/qmp,server=on,wait=off", "-serial", f"file:{work}/console.log"]
        arguments += ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n", "-display", "none"]
        with (work / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["qemu-system-x86_64", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._commands = self._connected("commands")
        self._asked = self._connected("qmp")
        self._control = self._asked.makefile("rwb")
        self._control.readline()
        self._ask("qmp_capabilities")

    def until_up(self, timeout_s: float) -> None:
        """Wait until its agent answers. Raises NoMachine."""
        deadline = Deadline(timeout_s)
        self._rest = b""
        while deadline:
            if (message := self._message(2.0)) is not None and message.get("ready"):
                return
            if self._process.poll() is not None or self._ask("query-status").get("status") == "internal-error":
                break
        raise NoMachine(f"no agent answers; the console's last words:\n{self.console()[-3000:]}")

    def __call__(self, command: str, *, code: int | None = 0, timeout_s: float = _COMMAND_S) -> Done:
        """Run a command of bash in it, as root. code: what it has to exit with; None: anything."""
        self._number += 1
        asked = {"number": self._number, "command": command, "timeout_s": timeout_s}
        self._commands.sendall(json.dumps(asked).encode() + b"\n")
        deadline = Deadline(timeout_s + 60)
        while deadline:
            message = self._message(5.0)
            if message is not None and message.get("number") == self._number:
                done = Done(message["code"], message["said"].rstrip("\n"))
                assert code is None or done.code == code, f"{command}: exit code {done.code}\n{done.said}"
                return done
        raise AssertionError(f"{command}: no answer; the console's last words:\n{self.console()[-3000:]}")

    def eventually(self, command: str, *, timeout_s: float = 300.0) -> str:
        """Run a command until it exits with 0; what it printed then."""
        deadline = Deadline(timeout_s)
        while True:
            done = self(command, code=None)
            if done.code == 0:
                return done.said
            assert deadline, f"{command}: exit code {done.code}\n{done.said}"
            time.sleep(1)

    def reset(self) -> None:
        """As the button does: nothing is told, nothing is written."""
        self._ask("system_reset")
        self.until_up(_BOOT_S)

    def reboot(self) -> None:
        """In order: systemd stops everything."""
        self.later("systemctl reboot")

    def later(self, command: str) -> None:
        """Run a command that ends its agent, and wait until that answers again."""
        self(f"systemd-run --on-active=1 --timer-property=AccuracySec=100ms {command}")
        self.until_up(_BOOT_S)

    def console(self) -> str:
        """What its kernel and systemd had to say."""
        return (self._work / "console.log").read_text(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self._control.close()
        self._asked.close()

    def _connected(self, name: str) -> socket.socket:
        deadline = Deadline(60)
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self._work / name))
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                assert self._process.poll() is None, (self._work / "qemu.log").read_text()
                deadline.check()
                time.sleep(0.1)
            else:
                return sock

    def _message(self, timeout_s: float) -> dict[str, Any] | None:
        """The next line of its agent; None when none comes."""
        self._commands.settimeout(timeout_s)
        while b"\n" not in self._rest:
            try:
                data = self._commands.recv(65536)
            except TimeoutError:
                return None
            if not data:
                raise NoMachine((self._work / "qemu.log").read_text())
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return None  # half of one, which a reset has cut off
        return found

    def _ask(self, verb: str) -> dict[str, Any]:
        """Ask qemu itself."""
        self._control.write(json.dumps({"execute": verb}).encode() + b"\n")
        self._control.flush()
        while line := self._control.readline():
            message = json.loads(line)
            if "return" in message:
                answer: dict[str, Any] = message["return"]
                return answer
        return {}


@contextlib.contextmanager
def booted(disk: Disk, work: Path) -> Iterator[Machine]:
    """A machine that is up. work: empty; its path is short, for sockets."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        machine = Machine(disk, work, "kvm")
        try:
            machine.until_up(_KVM_BOOT_S)
            yield machine
            return
        except NoMachine:
            pass
        finally:
            machine.close()
    machine = Machine(disk, work, "tcg,thread=multi")
    try:
        machine.until_up(_BOOT_S)
        yield machine
    finally:
        machine.close()
