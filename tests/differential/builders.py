"""The two builders: Shiplap in this process, and docker's BuildKit in a daemon that dies with it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, ClassVar

from bench.tools import Docker, ToolError
from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.contexts.keys import context_key
from builder.contexts.named import open_named_context
from builder.contexts.opening import open_source
from builder.remotes.access import Remote, SourceAccess
from builder.remotes.ssh import SshAgent
from builder.request.request import BuildRequest, Output
from containers.launcher import Launcher
from core.digests import DiffID
from core.errors import ShiplapError
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig, encode
from images.store import Store
from images.summary import Image
from tests.differential.casefile import Case
from tests.differential.outcomes import Outcome, Reader
from tests.differential.servers import Places


class Ours:
    """Shiplap, on a root of its own with the image ``base``."""

    def __init__(self, root: Path, base: Path, key: Path) -> None:
        self._key = key
        self._store = Store.open(root)
        self._launcher = Launcher(self._store.tmp)
        self._reader = Reader()
        with base.open("rb") as stream:
            config = ImageConfig.for_platform(Platform.host())
            import_rootfs(self._store, stream, config, [Reference.parse("base:latest")])

    def build(self, case: Case, context: Path, dockerfile: Path, places: Places) -> Outcome:
        with ExitStack() as stack:
            try:
                image = self._build(case, context, dockerfile, places, stack)
            except ShiplapError as error:
                return Outcome(None, f"{error}\n{error.hint or ''}")
        assert image is not None
        config: dict[str, Any] = json.loads(encode(image.config))
        return Outcome(self._reader.describe(config, lambda diff_id: self._store.layers.open(DiffID(diff_id))))

    def _build(self, case: Case, context: Path, dockerfile: Path, places: Places, stack: ExitStack) -> Image | None:
        access = SourceAccess(ssh={"default": SshAgent.of_keys([str(self._key)])} if case.ssh else {})
        of, file = (places.put_into(case.of), None) if case.of else (str(context), str(dockerfile))
        source = open_source(of, file, stdin=io.BytesIO(), scratch=self._store.tmp, remote=Remote(access))
        stack.callback(source.context.close)
        named = {}
        for name, value in case.contexts.items():
            opened = open_named_context(_place(value, context, places), self._store, [Platform.host()])
            if isinstance(opened, Context):
                stack.callback(opened.close)
            named[context_key(name)] = opened
        request = BuildRequest(
            source.dockerfile, "Dockerfile", source.context, outputs=(Output("image"),), target=case.target,
            platforms=tuple(map(Platform.parse, case.platform.split())), build_args=case.args, labels=case.labels,
            network="none", access=access, named_contexts=named,
            secrets={name: content.encode() for name, content in case.secrets.items()},
        )  # fmt: skip
        return build(request, BuildTools(self._store, self._launcher)).image

    def close(self) -> None:
        self._launcher.close()
        self._store.close()


class _Daemon(Docker):
    """Ends when the process that started it does, however that ends."""

    _prefix: ClassVar[Sequence[str]] = ("setpriv", "--pdeathsig", "TERM", "unshare", "--mount")


class BuildKit:
    """``docker build``, with the image ``base``. ``build`` may be called from several threads."""

    def __init__(self, directory: Path, base: Path, key: Path) -> None:
        self._directory = directory
        self._key = key
        self._docker = _Daemon(directory)
        self._reader = Reader()
        try:
            self._docker.start(base)
            self._docker.run("tag", "bench-base", "base")
        except BaseException:
            self._docker.stop()
            raise

    def build(self, case: Case, context: Path, dockerfile: Path, name: str, places: Places) -> Outcome:
        words: list[str | Path] = ["build", "--progress=plain", "--network=none", "-t", name]
        words += [] if case.of else ["-f", dockerfile]
        words += [f"--build-arg={key}={value}" for key, value in case.args.items()]
        words += [f"--label={key}={value}" for key, value in case.labels.items()]
        words += [f"--target={case.target}"] if case.target else []
        words += [f"--platform={case.platform}"] if case.platform else []
        words += [f"--build-context={key}={_place(value, context, places)}" for key, value in case.contexts.items()]
        words += [f"--ssh=default={self._key}"] if case.ssh else []
        for number, (key, content) in enumerate(case.secrets.items()):
            path = self._directory / f"{name}-secret-{number}"
            path.write_text(content)
            words.append(f"--secret=id={key},src={path}")
        try:
            log = self._docker.run(*words, places.put_into(case.of) or context)
        except ToolError as error:
            return Outcome(None, str(error))
        saved = self._directory / f"{name}.tar"
        self._docker.run("save", "-o", saved, name)
        with tarfile.open(saved) as archive:
            outcome = Outcome(self._describe(archive), log)
        saved.unlink()
        return outcome

    def _describe(self, archive: tarfile.TarFile) -> list[str]:
        (manifest,) = json.loads(_member(archive, "manifest.json").read())
        config: dict[str, Any] = json.loads(_member(archive, manifest["Config"]).read())
        paths = dict(zip(config["rootfs"]["diff_ids"] or [], manifest["Layers"] or [], strict=True))
        return self._reader.describe(config, lambda diff_id: _member(archive, paths[diff_id]))

    def close(self) -> None:
        self._docker.stop()


def _place(value: str, context: Path, places: Places) -> str:
    return str(context / value) if value.startswith("./") else places.put_into(value)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None
    return found
