"""The trail: one row of chips, the same on the pages of a commit, a run, an image and a container.

Each leads to the others, as far as whoever looks may see them: what may not be seen has no chip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from flask import current_app, g, request

from core.digests import Digest
from core.errors import InvalidReferenceError
from pipelines.accounts.roles import Rights
from pipelines.model import Run
from pipelines.runs.trail import MadeImage, Maker
from registry.server.errors import SpecError
from registry.server.survey import indexes_of, repository_id, tags_of
from web.backing import registry, service
from web.errors import NotFoundError
from web.guard.rights import may_repository, visible

if TYPE_CHECKING:
    from registry.server.registry import Registry

CONTAINERS: Final = "shiplap-containers"
"""The key, among an application's extensions, of the function that gives the containers of images."""

_MOST: Final = 3
"""Of one kind, in a row."""

_MOST_TRIED: Final = 30
"""Images that are looked for in the registry, for one row: those of a large run may all have gone."""

Kind: TypeAlias = Literal["commit", "run", "image", "container"]


class Chip(msgspec.Struct, frozen=True, omit_defaults=True):
    """One end of the trail, or a step of it.

    path: of its page. is_here: it is the page that is shown.
    state: of a run or a container. title: all that the text leaves out. command: that fetches an image.
    """

    kind: Kind
    text: str
    path: str
    title: str = ""
    state: str = ""
    is_here: bool = False
    command: str = ""


class ContainerLink(msgspec.Struct, frozen=True):
    """A container that whoever looks may see. image: the ID of its image."""

    name: str
    path: str
    state: str
    image: str


Containers: TypeAlias = Callable[[Rights, Collection[str]], Sequence[ContainerLink]]
"""Gives the containers of images, by the images' IDs, as far as somebody with these rights may see them."""


def own_registries() -> set[str]:
    """The names by which the registry here is known, HOST[:PORT]."""
    return {request.host, *service().registries()}


def trail_of_run(run: Run) -> list[Chip]:
    """From the page of a run."""
    made = service().trails.images_of([run.number]).get(run.number, [])
    shown = image_chips(made)
    return [
        *_commit_chip(run.project, service().trails.commit_of(run.number), run.trigger.title),
        Chip("run", f"#{run.number}", f"/runs/{run.number}", state=run.state, is_here=True),
        *shown,
        *_containers(each.image for each in made),
    ]


def trail_of_commit(project: str, commit: str, runs: Sequence[Run], made: Sequence[MadeImage]) -> list[Chip]:
    """From the page of a commit. runs, made: the newest first."""
    chips = [
        *_commit_chip(project, commit, is_here=True),
        *(Chip("run", f"#{run.number}", f"/runs/{run.number}", state=run.state) for run in runs[:_MOST]),
    ]
    return [*chips, *image_chips(made), *_containers(each.image for each in made)]


def trail_of_image(maker: Maker | None, here: Chip, ids: Iterable[str]) -> list[Chip]:
    """From the page of an image. maker: as of ``maker_of``. ids: of the images that it stands for."""
    return [*_maker_chips(maker), here, *_containers(ids)]


def trail_of_container(image: str, name: str, path: str) -> list[Chip]:
    """From the page of a container. image: the ID of its image. name, path: the container's own."""
    made = service().trails.makers_of_images([image], own_registries(), visible(g.rights)).get(image)
    its = [] if made is None else image_chips([_as_made(made)])
    return [*_maker_chips(made), *its, Chip("container", name, path, is_here=True)]


def maker_of(repository: str, digest: str) -> Maker | None:
    """The newest run that may be seen that pushed a manifest, or an index that lists it. None: no such run."""
    return makers_of(repository, [digest]).get(digest)


def makers_of(repository: str, digests: Sequence[str]) -> dict[str, Maker]:
    """``maker_of`` for several, by digest."""
    if not digests:
        return {}
    found = _makers(repository, digests)
    rest = [digest for digest in digests if digest not in found]
    if rest:
        rows = registry().rows
        indexes = indexes_of(rows, repository_id(rows, repository), rest)
        above = _makers(repository, list({each for several in indexes.values() for each in several}))
        for digest, several in indexes.items():
            candidates = [above[each] for each in several if each in above]
            if candidates:
                found[digest] = max(candidates, key=lambda maker: maker.run)
    return found


def image_chips(made: Sequence[MadeImage]) -> list[Chip]:
    """The images that are still in the registry here, and may be seen; by the tags that they have now."""
    here = _registry()
    names = own_registries()
    found: list[Chip] = []
    if here is None:
        return []
    for each in made[:_MOST_TRIED]:
        if len(found) == _MOST:
            break
        if each.registry in names and may_repository(service(), g.rights, "read", each.repository):
            chip = _image_chip(here, each.registry, each.repository, each.manifest)
            if chip is not None and chip not in found:
                found.append(chip)
    return found


def _makers(repository: str, digests: Collection[str]) -> dict[str, Maker]:
    return service().trails.makers(repository, digests, own_registries(), visible(g.rights)) if digests else {}


def _maker_chips(maker: Maker | None) -> list[Chip]:
    if maker is None:
        return []
    title = maker.trigger.title
    return [
        *_commit_chip(maker.project, maker.commit, title),
        Chip("run", f"#{maker.run}", f"/runs/{maker.run}", title=f"{maker.project}: {title}", state=maker.state),
    ]


def _commit_chip(project: str, commit: str, title: str = "", *, is_here: bool = False) -> list[Chip]:
    if not commit:
        return []
    path = f"/projects/{project}/commits/{commit}"
    return [Chip("commit", commit[:7], path, title=f"{title} ({commit})" if title else commit, is_here=is_here)]


def _image_chip(here: Registry, host: str, repository: str, manifest: str) -> Chip | None:
    """None: the registry does not have it any more."""
    try:
        digest = Digest.parse(manifest)
        here.manifests.find(repository, digest)
        tags = tags_of(here.rows, repository_id(here.rows, repository), [digest]).get(digest, [])
    except (SpecError, InvalidReferenceError):
        return None
    name = f"{repository}:{tags[0]}" if tags else f"{repository}@{digest.hex[:12]}"
    pulled = f"{host}/{repository}:{tags[0]}" if tags else f"{host}/{repository}@{digest}"
    title = f"{repository}@{digest}" + (f", tagged {', '.join(tags)}" if tags else "")
    return Chip("image", name, f"/images/{repository}/-/{digest}", title=title, command=f"docker pull {pulled}")


def _as_made(maker: Maker) -> MadeImage:
    return MadeImage(maker.run, 0, "", maker.registry, maker.repository, maker.manifest, maker.image)


def _containers(images: Iterable[str]) -> list[Chip]:
    ask: Containers | None = current_app.extensions.get(CONTAINERS)
    wanted = set(images)
    if ask is None or not wanted:
        return []
    return [Chip("container", each.name, each.path, state=each.state) for each in ask(g.rights, wanted)[:_MOST]]


def _registry() -> Registry | None:
    try:
        return registry()
    except NotFoundError:
        return None
