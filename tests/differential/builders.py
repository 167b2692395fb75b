"""The two builders: Shiplap in this process, and docker's BuildKit in a daemon that dies with it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from bench.tools import Docker, ToolError
from builder.build import build
from builder.load import open_source
from builder.request import BuildRequest, Output
from containers.launcher import Launcher
from core.digests import DiffID
from core.errors import ShiplapError
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig, encode
from images.store import Store
from tests.differential.casefile import Case
from tests.differential.outcomes import Outcome, Reader


class Ours:
    """Shiplap, on a root of its own with the image ``base``."""

    def __init__(self, root: Path, base: Path) -> None:
        self._store = Store.open(root)
        self._launcher = Launcher(self._store.tmp)
        self._reader = Reader()
        with base.open("rb") as stream:
            config = ImageConfig.for_platform(Platform.host())
            import_rootfs(self._store, stream, config, [Reference.parse("base:latest")])

    def build(self, case: Case, context: Path, dockerfile: Path) -> Outcome:
        source = None
        try:
            source = open_source(str(context), str(dockerfile), stdin=io.BytesIO(), scratch=self._store.tmp)
            request = BuildRequest(
                source.dockerfile, "Dockerfile", source.context, outputs=(Output("image"),), target=case.target,
                build_args=case.args, labels=case.labels, network="none",
            )  # fmt: skip
            image = build(request, store=self._store, launcher=self._launcher).image
        except ShiplapError as error:
            return Outcome(None, f"{error}\n{error.hint or ''}")
        finally:
            if source is not None:
                source.context.close()
        assert image is not None
        config: dict[str, Any] = json.loads(encode(image.config))
        return Outcome(self._reader.describe(config, lambda diff_id: self._store.layers.open(DiffID(diff_id))))

    def close(self) -> None:
        self._launcher.close()
        self._store.close()


class _Daemon(Docker):
    """Ends when the process that started it does, however that ends."""

    _prefix: ClassVar[Sequence[str]] = ("setpriv", "--pdeathsig", "TERM", "unshare", "--mount")


class BuildKit:
    """``docker build``, with the image ``base``. ``build`` may be called from several threads."""

    def __init__(self, directory: Path, base: Path) -> None:
        self._directory = directory
        self._docker = _Daemon(directory)
        self._reader = Reader()
        try:
            self._docker.start(base)
            self._docker.run("tag", "bench-base", "base")
        except BaseException:
            self._docker.stop()
            raise

    def build(self, case: Case, context: Path, dockerfile: Path, name: str) -> Outcome:
        words: list[str | Path] = ["build", "--progress=plain", "--network=none", "-t", name, "-f", dockerfile]
        words += [f"--build-arg={key}={value}" for key, value in case.args.items()]
        words += [f"--label={key}={value}" for key, value in case.labels.items()]
        words += [f"--target={case.target}"] if case.target else []
        try:
            log = self._docker.run(*words, context)
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


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None
    return found
