"""What /proc/PID/mountinfo says is read whole, whatever the names in it."""

from __future__ import annotations

from core.mountinfo import mounts

_TEXT = (
    "23 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"
    "40 28 8:1 /data/a\\040b /mnt/with\\040space\\134and\\011tab rw - ext4 /dev/sda1 rw,errors=remount-ro\n"
    "41 28 0:30 / /mnt/\x0bodd\u2028name rw shared:1 master:2 - cgroup cgroup rw,cpu,memory\n"
    "a line that is none\n"
)


def test_each_mount_is_read_with_the_names_that_it_has() -> None:
    found = [(mount.number, mount.root, mount.place, mount.kind, mount.options) for mount in mounts(_TEXT)]
    assert found == [
        ("23", "/", "/proc", "proc", ("rw",)),
        ("40", "/data/a b", "/mnt/with space\\and\ttab", "ext4", ("rw", "errors=remount-ro")),
        ("41", "/", "/mnt/\x0bodd\u2028name", "cgroup", ("rw", "cpu", "memory")),
    ]
