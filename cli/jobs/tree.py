"""The working tree that is run: its files as layers, and the event and the facts that the command line makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ci.conditions import Event
from ci.errors import DamagedRepositoryError
from ci.model import SourceOptions
from ci.outcome import GitMounts
from ci.source.facts import directories_of_tree, read_and_describe
from ci.source.gitview import GitView
from ci.source.layers import layers_of
from ci.source.lfs import lfs_layer, pointers_of
from ci.source.submodules import local_submodule_layers
from ci.source.workingtree import LocalRepository
from cli.errors import CommandError
from cli.jobs.asked import About
from cli.jobs.words import HERE
from core.digests import DiffID
from core.settings import FetchSettings
from images.store import Store


class WorkingTree(NamedTuple):
    """What a run is made from.

    layers: of its files, base first.
    git: what shows ``.git``; None: nothing does.
    """

    event: Event
    layers: tuple[DiffID, ...]
    git: GitMounts | None


def opened_repository(root: Path) -> LocalRepository:
    """The repository that this directory is in. The caller closes it. root: the store's. Raises RepositoryError."""
    return LocalRepository.open(root, Path(), bounds=FetchSettings.from_environ())


def check_event(about: About) -> None:
    """Raise CommandError for an event that lacks something."""
    if about.event == "tag" and not about.tag:
        raise CommandError("--event tag: which one?", hint="--tag NAME")
    if about.event == "pull_request" and not about.target:
        raise CommandError("--event pull_request: into which branch?", hint="--target BRANCH")


def read_tree(repository: LocalRepository, about: About, source: SourceOptions, store: Store) -> WorkingTree:
    """The files as they are now. Raises RepositoryError, StorageFullError and what ``check`` raises."""
    try:
        return _read_tree(repository, about, source, store)
    except DamagedRepositoryError:
        repository.renew()
        return _read_tree(repository, about, source, store)


def _read_tree(repository: LocalRepository, about: About, source: SourceOptions, store: Store) -> WorkingTree:
    objects, tree = repository.objects, repository.tree()
    branch = repository.branch if about.branch is None else about.branch
    facts = {
        "SHIPLAP_RUN": HERE,
        "SHIPLAP_PROJECT": repository.top.name,
        "SHIPLAP_EVENT": about.event,
        "SHIPLAP_BRANCH": branch,
        "SHIPLAP_TARGET": about.target,
        "SHIPLAP_TAG": about.tag,
    }
    commit = None
    if repository.commit:
        commit, described = read_and_describe(objects, repository.commit)
        facts |= described
    event = Event(
        about.event,
        branch,
        about.target,
        about.tag,
        facts=facts,
        directories=lambda pattern: directories_of_tree(objects, tree, pattern),
    )
    large = pointers_of(objects, tree) if source.lfs else []
    git = None
    if commit is not None and source.history != 0:
        git = GitView(
            store,
            repository.key,
            objects,
            commit,
            tree,
            branch=repository.branch,
            history=source.history,
            large=large,
        )
    return WorkingTree(event, _layers(repository, tree, source, store), git)


def _layers(repository: LocalRepository, tree: str, source: SourceOptions, store: Store) -> tuple[DiffID, ...]:
    """The layers of the files, those that are elsewhere and those of submodules above them, where they are wanted."""
    layers = layers_of(store, repository.key, repository.objects, tree)
    if source.lfs:
        large = lfs_layer(store, repository.key, repository.objects, tree, repository.large_files())
        layers += (large,) if large is not None else ()
    return (*layers, *local_submodule_layers(store, repository, tree)) if source.submodules else layers
