"""A process that is one shell in what a failed job left on this host.

It rereads what the shell's row says, makes a container of what is kept, and ends with the shell: when its command ends,
when whoever opened it goes, when what it is made of is kept no longer, or when the worker ends. What is written in it
is thrown away then.

``python -m worker.shell PARENT NAME GROUP SHELL``: the heart's process, the worker's name, the enclosure that bounds
what steps use together (may be empty), and the shell's number.
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Final

from builder.running.watch import Watch
from ci.errors import JobFaultError, RepositoryError
from ci.limits import within
from ci.parsing import pipeline_name
from ci.source.commit import git_again
from containers.spec import ContainerSpec, File, Mount, Tree
from core.digests import DiffID
from core.errors import ShiplapError
from core.leaving import leave
from core.processes import end_with_parent
from core.rootfs import RootLayer
from core.settings import ServiceSettings, StepSettings
from core.trust import Domain
from images.generations import CacheName
from images.store import Store
from pipelines.accounts.audit import printable
from pipelines.jsonlogs import configuration, working_on
from pipelines.runs.domains import domain_of, named_by, run_asks
from pipelines.runs.shellpipes import PIECE_BYTES
from pipelines.runs.shells import DEFAULT_COMMAND, Granted
from worker.entrances import in_terminal
from worker.keptrows import failed_base_name, failed_name
from worker.processresources import Resources, WorkerSettings
from worker.shellrelay import ShellRelay, tell_end

_PLACE: Final = "/work"
_HOSTNAME: Final = "shiplap"
_log = logging.getLogger("worker.shell")  # also as a process of its own


class FailedShell:
    """One shell, from the claim of its row to its end."""

    def __init__(self, resources: Resources, granted: Granted) -> None:
        assert granted.files is not None, "it is one in a failed job"
        self._resources = resources
        self._service = resources.service
        self._granted = granted
        self._files = granted.files
        self._beside: list[str] = []
        self._is_stopped = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler: the worker is to end."""
        del number, frame
        self._is_stopped = True

    def run(self) -> None:
        """Returns once it has ended, and that is noted. Raises nothing that a user can cause."""
        end = self._service.shell_pipes.end(self._granted.id, "worker")
        try:
            with Store.open(self._service.settings.root) as store, ExitStack() as stack:
                spec = in_terminal(self._spec(store, stack), self._granted.terms)
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                stack.callback(os.close, null)
                container = stack.enter_context(
                    self._resources.launcher().start(spec, stdin=null, stdout=null, stderr=null)
                )
                end.say("opened")
                if self._granted.terms.command == DEFAULT_COMMAND:  # whoever wants another one reads its output
                    end.say("data", greeting(self._granted, self._beside))
                assert spec.upper is not None
                watch = Watch(within(self._resources.limits, self._files.limits), spec.upper, spec.mounts)
                ShellRelay(self._service.shells, self._granted.id, end, container, lambda: self._why_over(watch)).run()
        except (ShiplapError, OSError) as error:
            why = error.message if isinstance(error, ShiplapError) else error.strerror or str(error)
            _log.warning("shell %d: %s", self._granted.id, why)
            tell_end(self._service.shells, self._granted.id, end, None, f"it did not start: {why}")

    def _spec(self, store: Store, stack: ExitStack) -> ContainerSpec:
        """The container of what is kept. Raises JobFaultError where that is gone."""
        run, files = self._granted.run, self._files
        domain = domain_of(run)
        assert domain is not None, "its planning has settled it"
        store.act_for(domain)
        for name in (failed_name, failed_base_name):
            if store.kept.get(name(run.number, self._granted.name)) is None:
                raise JobFaultError("what the job left is not here any more")
        layers, upper = self._mountable(store, stack, files.root)
        workspace, written = self._mountable(store, stack, files.workspace)
        values = self._secrets() if self._granted.has_secrets else {}
        held = within(self._resources.limits, files.limits)
        mounts: list[Mount] = [Tree(workspace, _PLACE, upper=written, owner=files.owner)]
        mounts += self._git(store, stack)
        mounts += self._caches(store, stack, domain)
        mounts += [File(each.file, values[each.name], 0o400, *files.owner) for each in files.secrets
                   if each.file and each.name in values]  # fmt: skip
        given = [
            (each.variable, values[each.name].decode("utf-8", "surrogateescape"))
            for each in files.secrets
            if each.variable and each.name in values
        ]
        return ContainerSpec(
            layers=layers,
            upper=upper,
            args=self._granted.terms.command,
            env=(*files.env, *given),
            cwd=files.cwd,
            user=files.user,
            hostname=_HOSTNAME,
            network="default" if files.has_network else "none",
            mounts=tuple(mounts),
            limits=held.container,
            ulimits=held.ulimits,
            shm_bytes=held.shm_bytes,
            reaper=True,
        )

    def _mountable(
        self, store: Store, stack: ExitStack, layers: tuple[DiffID, ...]
    ) -> tuple[tuple[RootLayer, ...], str]:
        """Layers as they are mounted, and a directory for what is written in the shell."""
        lowers = store.snapshots.lowers(layers)
        upper = store.snapshots.new_upper(lowers)
        stack.callback(store.snapshots.discard, upper)
        return lowers, upper.path

    def _git(self, store: Store, stack: ExitStack) -> list[Mount]:
        """``.git`` as the job had it at its beginning, where the repository's mirror still has that."""
        place = self._files.git
        if place is None:
            return []
        try:
            with ExitStack() as undo:
                view = undo.enter_context(git_again(store, place))
                mounts = () if view is None else undo.enter_context(view.mounted(f"{_PLACE}/.git"))
                stack.push(undo.pop_all())
        except RepositoryError as error:
            self._beside.append(f"no .git: {error.message}")
            return []
        if view is None:
            self._beside.append("no .git: the repository's mirror is not on this host any more")
            return []
        self._beside.append(".git: as the job had it when it began")
        return [mount._replace(owner=self._files.owner) if isinstance(mount, Tree) else mount for mount in mounts]

    def _caches(self, store: Store, stack: ExitStack, domain: Domain) -> list[Mount]:
        """What the next run begins with. What the job itself wrote there is gone: a failed one leaves nothing."""
        found: list[Mount] = []
        for each in self._files.caches:
            cache = CacheName(each.owner, each.name)
            generation = stack.enter_context(store.generations.open(cache, domain, limit_bytes=each.limit))
            upper = store.snapshots.new_upper(generation.layers)
            stack.callback(store.snapshots.discard, upper)
            found.append(Tree(generation.layers, each.path, upper=upper.path, owner=self._files.owner))
            self._beside.append(f"cache {each.path}: {generation.begins}, without what this job wrote")
        return found

    def _secrets(self) -> Mapping[str, bytes]:
        """The secrets that the job's run may have today. Those that came with the run are gone with its end."""
        run = self._granted.run
        domain = domain_of(run)
        if domain is None or domain.is_fork or not run.is_trusted:
            return {}
        plan = self._service.pipelines.plan_of(run.number)
        branch, tag = named_by(plan.ref)
        names = {each.name for each in self._files.secrets}
        asks = run_asks(run, domain, branch, tag, pipeline_name(plan.file))
        values = self._service.secrets.hold(run.project).sifted(asks).values
        return {name: value for name, value in values.items() if name in names}

    def _why_over(self, watch: Watch) -> str:
        if self._is_stopped:
            return "its worker ends"
        if time.time() >= self._granted.until:
            return "what the job left is kept no longer"
        return watch.exceeded() or ""


def greeting(granted: Granted, beside: Sequence[str]) -> bytes:
    """What somebody is told who looks around in what a failed job left. beside: lines on what it had besides files."""
    assert granted.files is not None
    services = granted.files.services
    lines = [
        f"What {granted.name} of run {granted.run.number} left. What is done here is thrown away.",
        *beside,
        *([f"no services: {', '.join(services)}"] if services else []),
    ]
    text = "".join(f"# {printable(line)}\r\n" for line in lines)
    return text.encode("utf-8", "replace")[:PIECE_BYTES]


def main() -> None:
    """The process."""
    parent, name, group, shell = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    end_with_parent(parent)
    logging.config.dictConfig(configuration())
    settings = WorkerSettings(ServiceSettings.from_environ(), name, steps=StepSettings.from_environ(), group=group)
    code = 0
    try:
        resources = Resources(settings)
        try:
            granted = resources.service.shells.open(shell, resources.host)
            if granted is not None:
                found = FailedShell(resources, granted)
                signal.signal(signal.SIGTERM, found.stop)
                with working_on(granted.run.number):
                    found.run()
        finally:
            resources.close()
    except ShiplapError as error:
        _log.warning("shell %d: %s", shell, error)
        code = 1
    leave(code)


if __name__ == "__main__":
    main()
