"""SSH agents: what the builder's own signs and passes on, and RUN --mount=type=ssh."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.errors import SshKeyError
from builder.remotes.access import SourceAccess
from builder.remotes.ssh import SshAgent
from builder.running.failures import StepError
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig
from tests.builder.test_build import Workshop

KINDS = {"ed25519": (), "rsa": ("-b", "2048"), "ecdsa": ("-b", "384")}


def make_key(directory: Path, kind: str = "ed25519", *words: str, passphrase: str = "") -> Path:
    path = directory / f"id_{kind}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *KINDS[kind], "-N", passphrase, "-C", f"a {kind} key", "-f", path, *words],
        check=True,
    )
    return path


@contextmanager
def listening(agent: SshAgent, directory: Path) -> Iterator[str]:
    directory.mkdir(exist_ok=True)
    with agent.listening(directory, "socket", os.geteuid(), os.getegid()):
        yield str(directory / "socket")


def ask(path: str, message: bytes) -> bytes:
    """The answer to one message of the protocol."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(struct.pack(">I", len(message)) + message)
        (length,) = struct.unpack(">I", client.recv(4))
        return client.recv(length)


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_signs_with_a_key_of_the_agent(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind)
    agent = SshAgent.of_keys([str(key)])
    public = key.with_suffix(".pub")
    (tmp_path / "data").write_text("data")
    key.unlink()  # what signs is the agent
    with listening(agent, tmp_path / "agent") as path:
        environment = {**os.environ, "SSH_AUTH_SOCK": path}
        listed = subprocess.run(["ssh-add", "-L"], env=environment, check=True, stdout=subprocess.PIPE, text=True)
        assert listed.stdout.split()[:2] == public.read_text().split()[:2]
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(public), "-n", "test", str(tmp_path / "data")]
        subprocess.run(sign, env=environment, check=True, stderr=subprocess.DEVNULL)
    with (tmp_path / "data").open() as data:
        check = ["ssh-keygen", "-Y", "check-novalidate", "-n", "test", "-s", str(tmp_path / "data.sig")]
        subprocess.run(check, stdin=data, check=True, stdout=subprocess.DEVNULL)


def test_key_in_pem_form_is_read(tmp_path: Path) -> None:
    assert SshAgent.of_keys([str(make_key(tmp_path, "rsa", "-m", "PEM"))])


def test_agent_that_is_passed_on_lists_and_signs_and_does_nothing_else(tmp_path: Path) -> None:
    inner = SshAgent.of_keys([str(make_key(tmp_path))])
    with listening(inner, tmp_path / "inner") as first, listening(SshAgent.at(first), tmp_path / "outer") as second:
        assert ask(second, b"\x0b")[:5] == b"\x0c\x00\x00\x00\x01"
        for request in (b"\x11", b"\x12", b"\x13", b"\x16", b"\x1b\x00\x00\x00\x05query"):
            assert ask(second, request) == b"\x05"
    assert not os.listdir(tmp_path / "outer")


def test_malformed_messages_are_refused(tmp_path: Path) -> None:
    with listening(SshAgent.of_keys([str(make_key(tmp_path))]), tmp_path / "agent") as path:
        assert ask(path, b"\x0d\x00\x00\x00\xff") == b"\x05"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"\xff\xff\xff\xff")
            assert client.recv(1) == b""


def test_keys_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(SshKeyError, match="has a passphrase") as caught:
        SshAgent.of_keys([str(make_key(tmp_path, passphrase="secret"))])
    assert "ssh-agent" in (caught.value.hint or "")
    with pytest.raises(SshKeyError, match="cannot read the SSH key"):
        SshAgent.of_keys([str(tmp_path / "nothing")])
    (tmp_path / "text").write_text("no key")
    with pytest.raises(SshKeyError, match="is no private SSH key"):
        SshAgent.of_keys([str(tmp_path / "text")])


# RUN --mount=type=ssh

LIST = (  # perl is in the smallest Debian; busybox cannot connect to a socket of this kind
    "perl -MIO::Socket::UNIX -e '"
    '$s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die "$ENV{SSH_AUTH_SOCK}: $!"; '
    'print $s pack("NC", 1, 11); $s->flush; read($s, $h, 4); read($s, $b, unpack("N", $h)); '
    'print unpack("x1 N", $b), " key\\n"'
    "'"
)


@pytest.fixture
def workshop(privileged: None, tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


def test_step_talks_to_the_agent(workshop: Workshop, debian_tar: Path, tmp_path: Path) -> None:
    with debian_tar.open("rb") as stream:
        config = ImageConfig.for_platform(Platform.host())
        import_rootfs(workshop.store, stream, config, [Reference.parse("debian:latest")])
    access = SourceAccess(ssh={"default": SshAgent.of_keys([str(make_key(tmp_path))])})
    text = (
        f"FROM debian\nRUN --mount=type=ssh {LIST}\nUSER 1000:1000\n"
        f"RUN --mount=type=ssh,uid=1000,gid=1000,target=/run/a {LIST} && stat -c '%A %u %g' /run/a\n"
        f"RUN --mount=type=ssh {LIST} || echo refused\nRUN echo left; ls -A /run/buildkit /run/a\n"
    )
    with pytest.raises(StepError):  # the last step lists what is not there any more
        workshop.build(text, access=access)
    said = workshop.seen.output()
    assert "1 key\n1 key\nsrw------- 1000 1000\n" in said
    assert "Permission denied" in said
    assert "refused" in said
    assert said.count("No such file or directory") == 2


def test_agents_have_names_and_numbered_places(workshop: Workshop, tmp_path: Path) -> None:
    agent = SshAgent.of_keys([str(make_key(tmp_path))])
    access = SourceAccess(ssh={"default": agent, "other": agent})
    workshop.build(
        "FROM base\nRUN --mount=type=ssh --mount=type=ssh,id=other --mount=type=ssh,id=other,target=/t,mode=666 "
        "ls -l /run/buildkit /t | tr -s ' ' | cut -d' ' -f1,9 | grep ^s; echo $SSH_AUTH_SOCK\n",
        access=access,
    )
    assert workshop.seen.output() == (
        "srw-rw-rw- /t\nsrw------- ssh_agent.0\nsrw------- ssh_agent.1\n/run/buildkit/ssh_agent.0\n"
    )


def test_agent_that_nobody_gave_is_no_socket_unless_required(workshop: Workshop) -> None:
    workshop.build("FROM base\nRUN --mount=type=ssh test -e $SSH_AUTH_SOCK || echo none\n")
    assert workshop.seen.output() == "none\n"
    with pytest.raises(StepError, match="the SSH agent 'key' is required") as caught:
        workshop.build("FROM base\nRUN --mount=type=ssh,id=key,required true\n")
    assert "--ssh key" in (caught.value.hint or "")


def test_whether_there_is_an_agent_and_where_is_part_of_the_cache_key_and_which_is_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    text = "FROM base\nRUN --mount=type=ssh,target={} true\n"
    agents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        agents.append(SourceAccess(ssh={"default": SshAgent.of_keys([str(make_key(tmp_path / name))])}))
    assert workshop.counts(text.format("/a")) == (1, 0)
    assert workshop.counts(text.format("/a"), access=agents[0]) == (1, 0)
    assert workshop.counts(text.format("/a"), access=agents[1]) == (0, 1)
    assert workshop.counts(text.format("/b"), access=agents[0]) == (1, 0)
