"""The names of what there is, for those who press the tab key.

Nothing is made, started or waited for long: who asks for a name and gets none goes on typing. Names that a terminal
would take for orders are left out, since strangers choose some of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import click

from core.errors import ShiplapError

_SERVER_S: Final = 0.8
"""Who presses the tab key and gets nothing goes on typing."""

_SHORT: Final = 12
_DOCKERFILE_BYTES: Final = 1 << 20
_RUNS: Final = "100"


class Asked(NamedTuple):
    """What has been typed before the word that is to be completed.

    root, host: the values of ``--root`` and ``--host``.
    values: of the command's parameters, as far as they are there; none while an option waits for its value.
    words: all of them, as they were typed.
    """

    root: str | None
    host: str | None
    values: dict[str, Any]
    words: tuple[str, ...] = ()

    @property
    def run(self) -> int | None:
        """The number of the run that the command is about."""
        typed = self.values.get("run") or next((word for word in self.words if word.isdecimal()), None)
        return None if typed is None else int(typed)


class Name(NamedTuple):
    """A name that fits, and what it is."""

    word: str
    about: str = ""


Names: TypeAlias = Callable[[Asked], Iterable[Name]]
"""Tells the names of one kind. May raise what a user can cause: then there are none."""


def of_containers(*states: str) -> Names:
    """Containers in one of these states; of any, when none is given."""

    def find(asked: Asked) -> Iterator[Name]:
        if not _is_there(asked, "engine.db"):
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
    if not _is_there(asked, "store.db"):
        return
    from cli.store import open_store

    with open_store(asked.root) as store:
        for image in store.images.list():
            for name in image.names:
                yield Name(name.familiar, image.id.short)


def of_capabilities(asked: Asked) -> Iterator[Name]:
    """What ``--cap-add`` takes."""
    del asked
    from containers.capabilities import ALL_CAPABILITIES

    yield Name("ALL", "all of them")
    for name in sorted(ALL_CAPABILITIES):
        yield Name(name.removeprefix("CAP_"))


def of_volumes(asked: Asked) -> Iterator[Name]:
    """Volumes."""
    if not _is_there(asked, "engine.db"):
        return
    from cli.containers.opening import opened

    with opened(asked.root) as engine:
        for volume in engine.volumes.listed({})["Volumes"]:
            yield Name(volume["Name"])


def of_networks(asked: Asked) -> Iterator[Name]:
    """Networks."""
    if not _is_there(asked, "engine.db"):
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
    if asked.run is None:
        return
    for job in _answer(asked, f"/runs/{asked.run}/jobs")["jobs"]:
        yield Name(job["name"], job["state"])


def of_branches(asked: Asked) -> Iterator[Name]:
    """The branches of the newest runs."""
    for run in _answer(asked, "/runs", limit=_RUNS)["runs"]:
        if branch := run["trigger"].get("branch"):
            yield Name(branch, run["project"])


def of_starters(asked: Asked) -> Iterator[Name]:
    """Who started the newest runs."""
    for run in _answer(asked, "/runs", limit=_RUNS)["runs"]:
        if by := run["trigger"].get("by"):
            yield Name(by)


def of_steps(asked: Asked) -> Iterator[Name]:
    """The steps of the run, or the job, that has been typed before."""
    run, job = asked.run, asked.values.get("job") or asked.values.get("named")
    if run is None:
        return
    from cli.remote.jobs import job_path

    path = f"/runs/{run}" if job is None else job_path(run, job)
    for step in _answer(asked, f"{path}/steps")["steps"]:
        yield Name(step["name"], step["state"])


def of_secrets(asked: Asked) -> Iterator[Name]:
    """The names of secrets: of the project that has been typed before, else of all."""
    from cli.remote.http import segment

    project = asked.values.get("project")
    path = f"/projects/{segment(project)}/secrets" if project else "/secrets"
    for secret in _answer(asked, path)["secrets"]:
        yield Name(secret["name"])


def of_users(asked: Asked) -> Iterator[Name]:
    """The people who may sign in to the server that is chosen."""
    for user in _answer(asked, "/users")["users"]:
        yield Name(user["name"], user["role"])


def of_tokens(asked: Asked) -> Iterator[Name]:
    """The API tokens of the server that is chosen, by number."""
    for token in _answer(asked, "/tokens")["tokens"]:
        yield Name(str(token["id"]), token["name"])


def of_repositories(asked: Asked) -> Iterator[Name]:
    """The repositories of this machine's registry."""
    if not _is_there(asked, "store.db"):
        return
    from cli.store import open_store
    from registry.server.survey import list_repositories

    with open_store(asked.root) as store:
        for repository in list_repositories(store):
            yield Name(repository.name)


def of_cached(asked: Asked) -> Iterator[Name]:
    """What the build cache holds, by its short names."""
    if not _is_there(asked, "store.db"):
        return
    from cli.store import open_store

    with open_store(asked.root) as store:
        for item in store.cache_use.items():
            yield Name(item.id.removeprefix("sha256:")[:_SHORT], item.description)


def of_past_builds(asked: Asked) -> Iterator[Name]:
    """The builds that were made here."""
    from cli.building.pastbuilds import past_builds
    from core.settings import Settings

    for build in past_builds(Settings.from_environ(root=asked.root).root):
        yield Name(build.id[:_SHORT], f"{build.record.get('name', '')}: {build.state}")


def of_stages(asked: Asked) -> Iterator[Name]:
    """The stages of the Dockerfile that has been typed before, else of the one here."""
    from pathlib import Path

    from dockerfile_grammar import parse

    path = Path(asked.values.get("file") or Path(asked.values.get("context") or ".") / "Dockerfile")
    if not path.is_file() or path.stat().st_size > _DOCKERFILE_BYTES:
        return
    for stage in parse(path.read_text(), str(path)).stages:
        if stage.name:
            yield Name(stage.name)


def of_pipelines_here(asked: Asked) -> Iterator[Name]:
    """The pipelines of this repository."""
    del asked
    from pathlib import Path

    from ci.files import pipeline_files

    for path in pipeline_files(Path.cwd()):
        if "/" in path:  # else it is the only one, and has no name
            yield Name(Path(path).stem, path)


def ending(end: str, names: Names) -> Names:
    """The same names, each with what has to follow it."""

    def find(asked: Asked) -> Iterator[Name]:
        for name in names(asked):
            yield Name(name.word + end, name.about)

    return find


def either(*several: Names) -> Names:
    """The names of several kinds."""

    def find(asked: Asked) -> Iterator[Name]:
        for names in several:
            yield from fitting(names, asked, "")

    return find


def one_of(words: Sequence[str]) -> Names:
    """These words."""
    return lambda _: map(Name, words)


def of_projects(asked: Asked) -> Iterator[Name]:
    """The projects of the server that is chosen."""
    for project in _answer(asked, "/projects")["projects"]:
        yield Name(project["name"], project.get("repository") or "")


def of_archived_projects(asked: Asked) -> Iterator[Name]:
    """The archived projects of the server that is chosen."""
    for project in _answer(asked, "/projects", archived="true")["projects"]:
        yield Name(project["name"])


def of_contexts(asked: Asked) -> Iterator[Name]:
    """The servers that this user has named, and this machine."""
    from cli.remote.servers import LOCAL, Contexts
    from core.settings import RemoteSettings

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


def _is_there(asked: Asked, database: str) -> bool:
    """Whether there is a database, and it is this machine's that counts. Who only asks makes none."""
    from core.settings import RemoteSettings, Settings

    settings = RemoteSettings.from_environ(host=asked.host)
    if settings.host or (settings.config / "contexts.json").exists():
        from cli.remote.servers import chosen_url

        if chosen_url(asked.host) is not None:
            return False
    return (Settings.from_environ(root=asked.root).root / database).exists()


def _answer(asked: Asked, path: str, **query: str) -> Any:
    from cli.remote.http import Client
    from cli.remote.servers import required_server

    with Client(required_server(asked.host, asked.root), timeout_s=_SERVER_S) as client:
        return client.call("GET", path, query=query)
