"""The names of what there is, for those who press the tab key.

Nothing is made, started or waited for long: who asks for a name and gets none goes on typing. Names that a terminal
would take for orders are left out, since strangers choose some of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import click

from core.errors import ShiplapError
from core.settings import RemoteSettings, Settings

_SERVER_S: Final = 2.0
_RUNS: Final = "100"


class Asked(NamedTuple):
    """What has been typed before the word that is to be completed.

    root, host: the values of ``--root`` and ``--host``. values: of the command's parameters, as far as they are there.
    """

    root: str | None
    host: str | None
    values: dict[str, Any]


class Name(NamedTuple):
    """A name that fits, and what it is."""

    word: str
    about: str = ""


Names: TypeAlias = Callable[[Asked], Iterable[Name]]
"""Tells the names of one kind. May raise what a user can cause: then there are none."""


def of_containers(*states: str) -> Names:
    """Containers in one of these states; of any, when none is given."""

    def find(asked: Asked) -> Iterator[Name]:
        if not (Settings.from_environ(root=asked.root).root / "engine.db").exists():
            return
        from cli.containers.opening import opened

        with opened(asked.root) as engine:
            for document in engine.containers(every=True):
                if not states or document["State"] in states:
                    for name in document["Names"]:
                        yield Name(name.removeprefix("/"), f"{document['Image']}, {document['Status']}")

    return find


def of_images(asked: Asked) -> Iterator[Name]:
    """Images by each of their names."""
    if not (Settings.from_environ(root=asked.root).root / "store.db").exists():
        return
    from cli.store import open_store

    with open_store(asked.root) as store:
        for image in store.images.list():
            for name in image.names:
                yield Name(name.familiar, image.id.short)


def of_volumes(asked: Asked) -> Iterator[Name]:
    """Volumes."""
    if not (Settings.from_environ(root=asked.root).root / "engine.db").exists():
        return
    from cli.containers.opening import opened

    with opened(asked.root) as engine:
        for volume in engine.volumes.listed({})["Volumes"]:
            yield Name(volume["Name"])


def of_networks(asked: Asked) -> Iterator[Name]:
    """Networks."""
    if not (Settings.from_environ(root=asked.root).root / "engine.db").exists():
        return
    from cli.containers.opening import opened

    with opened(asked.root) as engine:
        for network in engine.networks.listed({}):
            yield Name(network["Name"], network["Driver"])


def of_runs(asked: Asked) -> Iterator[Name]:
    """The newest runs of the server that is chosen."""
    from cli.remote.wording import outcome, title_text

    for run in _answer(asked, "/runs", limit=_RUNS)["runs"]:
        yield Name(str(run["number"]), f"{run['project']}: {outcome(run)}: {title_text(run)}")


def of_jobs(asked: Asked) -> Iterator[Name]:
    """The jobs of the run that has been typed before."""
    run = asked.values.get("run")
    if run is None:
        return
    for job in _answer(asked, f"/runs/{int(run)}/jobs")["jobs"]:
        yield Name(job["name"], job["state"])


def of_projects(asked: Asked) -> Iterator[Name]:
    """The projects of the server that is chosen."""
    for project in _answer(asked, "/projects")["projects"]:
        yield Name(project["name"], project.get("repository") or "")


def of_contexts(asked: Asked) -> Iterator[Name]:
    """The servers that this user has named, and this machine."""
    from cli.remote.servers import LOCAL, Contexts

    known = Contexts.load(RemoteSettings.from_environ(host=asked.host)).urls
    yield Name(LOCAL, "this machine")
    for name, url in sorted(known.items()):
        yield Name(name, url)


def of_jobs_here(asked: Asked) -> Iterator[Name]:
    """The jobs of this repository's pipeline file, without those that parts would bring."""
    del asked
    from pathlib import Path

    from ci.files import pipeline_files, read_pipeline_file
    from ci.parsing import parse_alone

    for path in pipeline_files(Path.cwd()):
        lone = parse_alone(read_pipeline_file(Path.cwd() / path), str(path))
        for name in lone.pipeline.jobs:
            yield Name(name, str(path))


def fitting(names: Names, asked: Asked, typed: str) -> list[Name]:
    """The names that begin with what has been typed; none where something is wrong."""
    found: dict[str, Name] = {}
    with contextlib.suppress(ShiplapError, OSError, click.ClickException, ValueError):
        for name in names(asked):
            if name.word.startswith(typed) and name.word.isprintable():
                found.setdefault(name.word, name)
    return list(found.values())


def _answer(asked: Asked, path: str, **query: str) -> Any:
    from cli.remote.http import Client
    from cli.remote.servers import required_server

    with Client(required_server(asked.host, asked.root), timeout_s=_SERVER_S) as client:
        return client.call("GET", path, query=query)
