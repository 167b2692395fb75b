"""The RUN that failed, as a ``shiplap run`` command that can be pasted: ``--debug`` prints it.

It contains no secret. Secrets are the build's secrets, variables whose names say that they hold one, and addresses with
a password. Their values are left out wherever they stand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.graph.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from builder.request.limits import StepLimits
from builder.running.masking import secret_forms
from core.masking import FormFinder
from core.platforms import Platform
from dockerfile_grammar.secrecy import names_a_secret
from images.oci import ImageConfig

if TYPE_CHECKING:
    from builder.graph.mounts import RunMount
    from builder.graph.vertices import RunOp
    from builder.running.failures import HeldStep
    from images.store import Store

_CREDENTIALS: Final = re.compile(r"://\S*@")
_DEFAULTS: Final = StepLimits()


class RunCommand(NamedTuple):
    """What to paste, and what it lacks.

    text: for a shell; one line unless the step's own command has several.
    unset: variables whose values are not shown, so they come from the environment of whoever pastes it.
    left_out: what the step had and the command lacks, in words.
    """

    text: str
    unset: tuple[str, ...]
    left_out: tuple[str, ...]


def keep_image(held: HeldStep, store: Store) -> str:
    """Make a nameless image of the files that the step began with, from layers in the store. Returns its ID.

    It has no environment, user or working directory: the command sets them. Raises ImagesError and OSError.
    """
    platform = Platform.parse(held.op.foreign) if held.op.foreign else Platform.host()
    return str(store.images.put(ImageConfig.for_platform(platform), held.parent.diff_ids()).id)


def run_command(held: HeldStep, image: str, secrets: Mapping[str, bytes], *, root: str = "") -> RunCommand:
    """The command that runs the step's in ``image``.

    secrets: the build's.
    root: of the store, when it is not where ``shiplap`` looks by itself.
    """
    op = held.op
    sockets = {mount.target for mount in op.mounts if isinstance(mount, SshMount)}
    env = {name: value for name, value in (*op.env, *op.untracked_env) if value not in sockets}
    hidden = {name for name, value in env.items() if names_a_secret(name) or _CREDENTIALS.search(value)}
    in_variables = [env[name].encode("utf-8", "surrogateescape") for name in sorted(hidden)]
    words = _Words([*secrets.values(), *in_variables])
    unset = [name for name, value in env.items() if name in hidden or words.tell(value)]
    unset += [mount.env for mount in op.mounts if isinstance(mount, SecretMount) and mount.env is not None]
    options = [part for name, value in env.items() for part in ("-e", name if name in unset else f"{name}={value}")]
    options += [part for name in unset if name not in env for part in ("-e", name)]
    options += words.shown("--workdir", op.cwd, "the working directory")
    options += words.shown("--user", op.user, "the user")
    options += ["--network", op.network] if op.network != "default" else []
    options += [part for name, address in op.extra_hosts for part in ("--add-host", f"{name}:{address}")]
    options += words.shown("--hostname", op.hostname, "the host's name")
    # No variable is expanded in it: what a variable says stands there because the Dockerfile does.
    if any(_Words(secrets.values()).tell(arg) for arg in op.args):
        words.left_out.append("its command, which has a secret in it; here it is a shell")
        args: Sequence[str] = ("/bin/sh",)
    else:
        args = op.args
    call = ("shiplap", *(("--root", root) if root else ()), "run", "--rm", *options, *_limits(held.limits))
    text = " ".join(quoted(part) for part in (*call, image, *args))
    return RunCommand(text, tuple(unset), (*words.left_out, *_left_out(op, held.limits)))


class _Words:
    """Finds words that give a secret away. left_out: what was not shown for that reason."""

    def __init__(self, hidden: Collection[bytes]) -> None:
        forms = secret_forms(hidden)
        self._finder = FormFinder(forms) if forms else None
        self.left_out: list[str] = []

    def tell(self, text: str) -> bool:
        """Whether ``text`` tells a secret."""
        data = text.encode("utf-8", "surrogateescape")
        return self._finder is not None and any(True for _ in self._finder.spans(data))

    def shown(self, option: str, value: str, what: str) -> list[str]:
        """The option with its value, unless it is empty or tells a secret."""
        if value and self.tell(value):
            self.left_out.append(f"{what}, which has a secret in it")
            return []
        return [option, value] if value else []


def _limits(limits: StepLimits) -> Iterator[str]:
    """The options for the limits that the build was given."""
    container = limits.container
    if container.memory_bytes:
        yield from ("--memory", str(container.memory_bytes))
    if container.memory_swap_bytes:
        yield from ("--memory-swap", str(container.memory_swap_bytes))
    if container.cpus:
        yield from ("--cpus", f"{container.cpus:g}")
    if container.cpu_shares:
        yield from ("--cpu-shares", str(container.cpu_shares))
    if container.pids != _DEFAULTS.container.pids:
        yield from ("--pids-limit", str(container.pids or -1))
    for limit in limits.ulimits:
        yield from ("--ulimit", f"{limit.name}={limit.soft}:{limit.hard}")
    if limits.shm_bytes != _DEFAULTS.shm_bytes:
        yield from ("--shm-size", str(limits.shm_bytes))


def _left_out(op: RunOp, limits: StepLimits) -> Iterator[str]:
    """What ``shiplap run`` has no option for."""
    yield from map(_mount, op.mounts)
    yield from (f"the here-document {file.path}" for file in op.files)
    if op.insecure:
        yield "--security=insecure"
    if limits.timeout_s or limits.disk_bytes or limits.output_bytes:
        yield "the build's --step-timeout, --step-disk and --step-output"


def _mount(mount: RunMount) -> str:
    match mount:
        case SecretMount():
            places = [place for place in (mount.target, mount.env and f"${mount.env}") if place]
            return f"the secret {mount.id} in {' and '.join(places)}"
        case SshMount():
            return f"the SSH agent {mount.id} at {mount.target}"
        case CacheMount():
            return f"the cache {mount.target}"
        case TmpfsMount():
            return f"the tmpfs {mount.target}"
        case BindMount():
            return f"what is mounted on {mount.target}"


def quoted(word: str) -> str:
    """``word`` for a shell, without a character that a terminal would obey.

    Line feeds and tabs stay. Other control characters, and bytes that are no text, need bash's ``$'…'``.
    """
    if all(letter.isprintable() or letter in "\n\t" for letter in word):
        return shlex.quote(word)
    escaped = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else f"\\x{byte:02x}"
        for byte in word.encode("utf-8", "surrogateescape")
    )
    # An escape takes up to two digits. Both are written, so that no following character is taken for a digit.
    return f"$'{''.join(escaped)}'"
