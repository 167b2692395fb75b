"""A RUN's mounts, from plan to container: locks caches, looks secrets up, makes uppers for writes to throw away."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import msgspec

from builder.contexts.filetree import SourceTree
from builder.copying.job import CopyFrom, CopyJob
from builder.errors import BuildCancelledError, SecretNotFoundError, SshKeyError
from builder.graph.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount, selection_spec
from builder.graph.rootfs import RootFS
from builder.graph.vertices import RunOp
from builder.paths import clean, resolve
from builder.request.request import BuildRequest
from containers.spec import Bind, File, Mount, Tmpfs, Tree
from core.trust import COMMON, Scope
from images.cachemounts import Beginning
from images.store import Store

_STRICTEST = ("locked", "private", "shared")


class Mounted(msgspec.Struct, frozen=True):
    """What a container gets: mounts, and variables with secrets."""

    mounts: tuple[Mount, ...]
    secret_env: tuple[tuple[str, str], ...]


class Mounter:
    """Prepares the mounts of one build. view: gives a merged directory of a filesystem for some time."""

    def __init__(
        self, store: Store, request: BuildRequest, view: Callable[[RootFS], AbstractContextManager[int]]
    ) -> None:
        self._store = store
        self._request = request
        self._view = view

    @contextlib.contextmanager
    def mounted(self, op: RunOp, sources: Sequence[RootFS], stopped: Callable[[], bool]) -> Iterator[Mounted]:
        """Hold what the mounts of ``op`` need. Raises SecretNotFoundError, and BuildCancelledError once stopped."""
        with ExitStack() as stack:
            caches = self._hold_caches(op, sources, stopped, stack)
            mounts: list[Mount] = []
            env: list[tuple[str, str]] = []
            for mount in op.mounts:
                match mount:
                    case BindMount():
                        mounts.append(self._tree(mount, sources[mount.source], stack))
                    case CacheMount():
                        mounts.append(Bind(caches[mount], mount.target, readonly=mount.readonly))
                    case TmpfsMount():
                        mounts.append(Tmpfs(mount.target, mount.size_bytes))
                    case SecretMount():
                        content = self._secret(mount)
                        if content is not None and mount.env is not None:
                            env.append((mount.env, _as_value(mount, content)))
                        if content is not None and mount.target is not None:
                            mounts.append(File(mount.target, content, mount.mode, mount.uid, mount.gid))
                    case SshMount():
                        if (source := self._agent(mount, stack)) is not None:
                            mounts.append(Bind(source, mount.target))
            yield Mounted(tuple(mounts), tuple(env))

    def contents(self, op: RunOp, sources: Sequence[RootFS]) -> Iterator[str]:
        """Identifies everything that the step sees of other filesystems: first cheaply, then by the files' content.

        Waits for the layers of ``sources``. A filesystem that is mounted whole is identified by its layers alone.
        """
        used = [
            (mount.path, sources[mount.source])
            for mount in op.mounts
            if isinstance(mount, (BindMount, CacheMount)) and mount.source is not None
        ]
        whole = [f"{path} of {source.identity()}" for path, source in used]
        yield "\n".join(whole)
        if any(path != "/" for path, _ in used):
            parts = zip(used, whole, strict=True)
            yield "\n".join(text if path == "/" else self._digest(source, path) for (path, source), text in parts)

    def _digest(self, source: RootFS, path: str) -> str:
        with self._job(source, path) as job:
            return job.digest()

    def _job(self, source: RootFS, path: str, destination: str | None = None) -> CopyJob:
        spec = selection_spec(path)
        if destination is not None:
            spec = spec._replace(destination=destination)
        return CopyJob(
            CopyFrom(spec, lambda stack: SourceTree(stack.enter_context(self._view(source)), "what it is from"))
        )

    def _tree(self, mount: BindMount, source: RootFS, stack: ExitStack) -> Tree:
        upper = None
        layers = source.lowers(self._store.snapshots)
        if not mount.readonly:
            upper = self._store.snapshots.new_upper(layers)
            stack.callback(self._store.snapshots.discard, upper)
        return Tree(layers, mount.target, mount.path, None if upper is None else upper.path)

    def _hold_caches(
        self, op: RunOp, sources: Sequence[RootFS], stopped: Callable[[], bool], stack: ExitStack
    ) -> dict[CacheMount, str]:
        """The directories of the step's caches, held until ``stack`` ends."""
        held: dict[tuple[str, Beginning], str] = {}
        mounts = [
            (mount.id, self._beginning(mount, sources), mount) for mount in op.mounts if isinstance(mount, CacheMount)
        ]
        # Sorted, so that two steps cannot wait for each other. A cache that comes twice is held once, by the stricter.
        for name, beginning, mount in sorted(mounts, key=lambda it: (it[:2], _STRICTEST.index(it[2].sharing))):
            if (name, beginning) in held:
                continue

            def create(path: str, mount: CacheMount = mount) -> None:
                self._create(path, mount, sources)

            hold = self._store.cache_mounts.use(
                name, mount.sharing, create, stopped, beginning=beginning, scope=self._scope(mount)
            )
            path = stack.enter_context(hold)
            if path is None:
                raise BuildCancelledError("cancelled")
            held[name, beginning] = path
        return {mount: held[name, beginning] for name, beginning, mount in mounts}

    def _beginning(self, mount: CacheMount, sources: Sequence[RootFS]) -> Beginning:
        """The beginning of a cache, by which caches of one ID differ."""
        source = "" if mount.source is None else f"{mount.path} of {sources[mount.source].identity()}"
        return Beginning(mount.uid, mount.gid, mount.mode, source)

    def _scope(self, mount: CacheMount) -> Scope:
        """The cache directory's owner. Nobody else builds with what strangers leave in theirs, whatever is shared."""
        domain = self._request.domain
        shared = domain.is_host or (mount.id in self._request.shared_cache_mounts and not domain.is_fork)
        return COMMON if shared else domain.mounts_scope

    def _create(self, path: str, mount: CacheMount, sources: Sequence[RootFS]) -> None:
        """Give a new cache its first content, its owner and its mode."""
        uid, gid, mode = mount.uid, mount.gid, mount.mode
        if mount.source is not None:
            self._fill(path, sources[mount.source], mount.path)
            if mount.is_copy:
                with self._view(sources[mount.source]) as fd:
                    tree = SourceTree(fd, "what it is from")
                    st = tree.stat(resolve(tree, clean(mount.path)))
                if st is not None and stat.S_ISDIR(st.st_mode):
                    uid, gid, mode = st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)
        os.chown(path, uid, gid)
        os.chmod(path, mode)

    def _fill(self, path: str, source: RootFS, wanted: str) -> None:
        from images.apply import apply_layer
        from images.tarwriter import TarWriter

        with tempfile.TemporaryFile(dir=self._store.tmp) as tar, self._job(source, wanted, "/") as job:
            writer = TarWriter(tar)
            job.write(None, writer, created_at=int(time.time()), timestamp=None)
            writer.close()
            tar.seek(0)
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                apply_layer(tar, root, overlay=False)
            finally:
                os.close(root)

    def _agent(self, mount: SshMount, stack: ExitStack) -> str | None:
        """The socket of an SSH agent, which serves until ``stack`` ends; None when the build has no such agent."""
        agent = self._request.access.ssh.get(mount.id)
        if agent is None:
            if mount.required:
                raise SshKeyError(
                    f"RUN --mount: the SSH agent {mount.id!r} is required, and was not given",
                    hint=f"build with --ssh {mount.id}, or --ssh {mount.id}=FILE for a key",
                )
            return None
        directory = self._store.snapshots.new_upper()  # what the launcher can mount, and a later process reclaims
        stack.callback(self._store.snapshots.discard, directory)
        stack.enter_context(agent.listening(Path(directory.path), "agent", mount.uid, mount.gid, mount.mode))
        return f"{directory.path}/agent"

    def _secret(self, mount: SecretMount) -> bytes | None:
        content = self._request.secrets.get(mount.id)
        if content is None and mount.required and mount.id in self._request.withheld:
            raise SecretNotFoundError(
                f"RUN --mount: secret {mount.id!r} is required, and is not for this build: "
                f"{self._request.withheld[mount.id]}"
            )
        if content is None and mount.required:
            raise SecretNotFoundError(
                f"RUN --mount: secret {mount.id!r} is required, and was not given",
                hint=f"build with --secret id={mount.id},src=FILE, or --secret id={mount.id},env=VARIABLE",
            )
        return content


def _as_value(mount: SecretMount, content: bytes) -> str:
    if b"\0" in content:
        raise SecretNotFoundError(
            f"RUN --mount: secret {mount.id!r} cannot be the value of ${mount.env}: it has a NUL byte",
            hint="mount it as a file: leave env= out",
        )
    return os.fsdecode(content)
