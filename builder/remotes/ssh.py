"""SSH agents for builds: ours, with keys from files, or the user's own, passed on. Both sign, and do nothing else.

A build gets a socket that answers only the two requests that signing needs. So a step cannot add keys to the user's
agent, or remove or lock them. Protocol: draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import msgspec

from builder.errors import SshKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization.ssh import SSHPrivateKeyTypes

_FAILURE, _REQUEST_IDENTITIES, _IDENTITIES, _SIGN_REQUEST, _SIGN_RESPONSE = 5, 11, 12, 13, 14
_RSA_SHA2_256, _RSA_SHA2_512 = 2, 4
_MAX_MESSAGE: Final = 256 << 10  # as OpenSSH's agent
_MAX_KEY_BYTES: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")
_FAILED: Final = bytes([_FAILURE])

Answer: TypeAlias = Callable[[bytes], bytes]
"""Answers one message. Message and answer come without their length."""


class _Sessions(Protocol):
    def session(self) -> contextlib.AbstractContextManager[Answer]:
        """Gives the function that answers the messages of one connection."""


class SshAgent:
    """An agent: something that signs. ``listening`` offers it on a socket, to any number of clients."""

    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions

    @classmethod
    def of_keys(cls, paths: Sequence[str]) -> SshAgent:
        """An agent with these private keys, in OpenSSH's or PEM form, without passphrases. Raises SshKeyError."""
        return cls(_Keys([_Key.load(path) for path in paths]))

    @classmethod
    def of_key_data(cls, name: str, data: bytes) -> SshAgent:
        """An agent with one private key, ``data``. name: of the key, for messages."""
        return cls(_Keys([_Key.parse(name, data)]))

    @classmethod
    def at(cls, path: str) -> SshAgent:
        """The agent that listens at ``path``."""
        return cls(_Forwarded(path))

    @contextlib.contextmanager
    def listening(self, directory: Path, name: str, uid: int, gid: int, mode: int = 0o600) -> Iterator[None]:
        """Serve on the socket ``directory/name``, which is made, and removed at the end."""
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        clients: set[socket.socket] = set()
        try:
            listener.bind(f"/proc/self/fd/{folder}/{name}")  # a whole path may be too long for a socket's address
            os.chown(name, uid, gid, dir_fd=folder)
            os.chmod(name, mode, dir_fd=folder)
            listener.listen()
            thread = threading.Thread(target=self._accept, args=(listener, clients), name="ssh agent", daemon=True)
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
                for client in list(clients):
                    with contextlib.suppress(OSError):  # it has already ended
                        client.shutdown(socket.SHUT_RDWR)
                os.unlink(name, dir_fd=folder)
        finally:
            listener.close()
            os.close(folder)

    def _accept(self, listener: socket.socket, clients: set[socket.socket]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # shut down
                return
            clients.add(client)
            threading.Thread(target=self._serve, args=(client, clients), name="ssh agent client", daemon=True).start()

    def _serve(self, client: socket.socket, clients: set[socket.socket]) -> None:
        try:
            with client, contextlib.suppress(OSError), self._sessions.session() as answer:
                while (message := _receive(client)) is not None:
                    allowed = message[:1] in (bytes([_REQUEST_IDENTITIES]), bytes([_SIGN_REQUEST]))
                    _send(client, answer(message) if allowed else _FAILED)
        finally:
            clients.discard(client)


class SshAccess(msgspec.Struct, frozen=True):
    """Access for git over ssh.

    known_hosts: the file with the host keys to trust.
    agent: None for no keys.
    """

    known_hosts: bytes = b""
    agent: SshAgent | None = None


class _Forwarded:
    def __init__(self, path: str) -> None:
        self._path = path

    @contextlib.contextmanager
    def session(self) -> Iterator[Answer]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(self._path)

            def answer(message: bytes) -> bytes:
                _send(agent, message)
                return _receive(agent) or _FAILED

            yield answer


class _Keys:
    def __init__(self, keys: Sequence[_Key]) -> None:
        self._keys = keys

    @contextlib.contextmanager
    def session(self) -> Iterator[Answer]:
        yield self._answer

    def _answer(self, message: bytes) -> bytes:
        if message[0] == _REQUEST_IDENTITIES:
            listed = b"".join(_string(key.blob) + _string(key.name.encode()) for key in self._keys)
            return bytes([_IDENTITIES]) + _LENGTH.pack(len(self._keys)) + listed
        try:
            blob, rest = _take(message[1:])
            data, rest = _take(rest)
            (flags,) = _LENGTH.unpack(rest)
        except struct.error:
            return _FAILED
        for key in self._keys:
            if key.blob == blob and (signature := key.sign(data, flags)) is not None:
                return bytes([_SIGN_RESPONSE]) + _string(signature)
        return _FAILED


class _Key:
    """A key that an agent offers.

    blob: the public key as the protocol has it.
    """

    def __init__(self, name: str, key: SSHPrivateKeyTypes) -> None:
        from base64 import b64decode

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.name = name
        self._key = key
        text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.blob = b64decode(text.split()[1])

    @classmethod
    def load(cls, path: str) -> _Key:
        try:
            with open(os.path.expanduser(path), "rb") as file:
                data = file.read(_MAX_KEY_BYTES)
        except OSError as error:
            raise SshKeyError(f"cannot read the SSH key {path}: {error.strerror}") from error
        return cls.parse(path, data)

    @classmethod
    def parse(cls, name: str, data: bytes) -> _Key:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

        try:
            load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data[:200] else load_pem_private_key
            return cls(name, load(data, None))  # type: ignore[arg-type]  # a key of another kind is refused right here
        except TypeError as error:
            raise SshKeyError(
                f"the SSH key {name} has a passphrase", hint="add it to ssh-agent, and give --ssh default"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            if "password" in str(error).lower():
                raise SshKeyError(
                    f"the SSH key {name} has a passphrase", hint="add it to ssh-agent, and give --ssh default"
                ) from error
            raise SshKeyError(f"{name} is no private SSH key: {error}", hint="the file without .pub") from error

    def sign(self, data: bytes, flags: int) -> bytes | None:
        """The signature in the protocol's form; None when ``flags`` ask for a kind that this key cannot make."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        key = self._key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return _string(b"ssh-ed25519") + _string(key.sign(data))
        if isinstance(key, rsa.RSAPrivateKey):
            if flags & _RSA_SHA2_512:
                return _string(b"rsa-sha2-512") + _string(key.sign(data, padding.PKCS1v15(), hashes.SHA512()))
            if flags & _RSA_SHA2_256:
                return _string(b"rsa-sha2-256") + _string(key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
            return None  # with SHA-1, which no server takes any more
        if isinstance(key, ec.EllipticCurvePrivateKey):
            kinds: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(kinds[key.curve.key_size])))
            kind, _ = _take(self.blob)
            return _string(kind) + _string(_string(_number(r)) + _string(_number(s)))
        return None


def _string(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _number(value: int) -> bytes:
    """A positive mpint of RFC 4251: with a zero byte before a first bit that is set."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The string that ``data`` begins with, and what follows. Raises struct.error."""
    (length,) = _LENGTH.unpack_from(data)
    if len(data) < 4 + length:
        raise struct.error("cut short")
    return data[4 : 4 + length], data[4 + length :]


def _send(connected: socket.socket, message: bytes) -> None:
    connected.sendall(_string(message))


def _receive(connected: socket.socket) -> bytes | None:
    """The next message, None at the end and for one that is no message."""
    head = _exactly(connected, 4)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    return _exactly(connected, length) if 0 < length <= _MAX_MESSAGE else None


def _exactly(connected: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
