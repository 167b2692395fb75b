"""What images, and runs, differ in, and what is known of a commit, for programs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from images.comparing import ChangedName, ChangedSetting, ComparedFiles, compare_settings
from images.oci import Descriptor
from pipelines.runs.trail import MadeImage
from registry.server.browse import ImageView
from web.backing import browser
from web.calls import Call
from web.endpoints import Api
from web.errors import InvalidRequestError
from web.guard.rights import Target, check, may_repository
from web.runcomparison import Took, asked_otherwise, commits_between, older_first, times
from web.views.images import Reference, Repository, translated
from web.views.names import ProjectName
from web.views.runs import Number

api: Final = Api("images")

_RUNS: Final = 100
_LAYERS: Final = 500
_NONE: Final = {404: "There is no such image, or this web process has no registry"}


class CompareQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two images. old_repository: where the older one is; empty: in the same repository. platform: of an index."""

    old: Reference
    new: Reference
    old_repository: Annotated[str, msgspec.Meta(max_length=255)] = ""
    platform: Annotated[str, msgspec.Meta(max_length=100)] = ""


class ComparedImages(msgspec.Struct, frozen=True):
    """What two images differ in.

    size_change_bytes: of what a pull takes. same_layers: how many both have.
    files, packages: null until they were read, and where they cannot be; packages also where an image has no database
    of them.
    progress: how far reading is: ask again. fault: why it cannot be read.
    """

    size_change_bytes: int
    same_layers: int
    settings: list[ChangedSetting]
    files: ComparedFiles | None
    packages: list[ChangedName] | None
    progress: str
    fault: str


class RunCompareQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run to compare with."""

    other: Number


class AskedOtherwise(msgspec.Struct, frozen=True):
    """What was asked for otherwise; empty: it was not asked for."""

    name: str
    old: str
    new: str


class CommitBetween(msgspec.Struct, frozen=True):
    """A commit that a run was of. run: the first such run."""

    commit: str
    title: str
    by: str
    run: int


class ComparedRuns(msgspec.Struct, frozen=True):
    """What two runs differ in. old: the number of the older one, whichever was named first.

    times: of the whole run first, then of jobs, or of a build's steps.
    old_images, new_images: that they made, as far as the sender may read them.
    commits: between runs of one branch, as far as these had runs, the newest first.
    """

    old: int
    new: int
    times: list[Took]
    settings: list[AskedOtherwise]
    old_images: list[MadeImage]
    new_images: list[MadeImage]
    commits: list[CommitBetween]


class CommitView(msgspec.Struct, frozen=True):
    """A commit. runs: the newest 100, the newest first. images: that they made, as far as the sender may read them."""

    commit: str
    runs: list[int]
    images: list[MadeImage]


@api.endpoint("GET", "/runs/{run}/compare", scope="read", errors={404: "There is no such run"})
def compare_run(call: Call, run: Number, query: RunCompareQuery) -> ComparedRuns:
    """Compare a run with another one: times, what was asked for, images, and the commits between."""
    check(call.service, call.rights, "read", Target(run=query.other))
    old, new = older_first(run, query.other)
    made = call.service.trails.images_of([old.number, new.number])
    old_images, new_images = (
        [each for each in made.get(number, ()) if may_repository(call.service, call.rights, "read", each.repository)]
        for number in (old.number, new.number)
    )
    return ComparedRuns(
        old.number,
        new.number,
        times(old, new),
        [AskedOtherwise(*each) for each in asked_otherwise(old, new)],
        old_images,
        new_images,
        [CommitBetween(*each) for each in commits_between(old, new)],
    )


@api.endpoint("GET", "/images/{repository}/-/compare", scope="read", errors=_NONE)
def compare_images(call: Call, repository: Repository, query: CompareQuery) -> ComparedImages:
    """Compare two images: sizes, layers, settings, files, and packages by the images' databases.

    Files are read in the background the first time: ask again until ``files`` or ``fault`` is there.
    """
    older = query.old_repository or repository
    check(call.service, call.rights, "read", Target(repository=older))
    with translated(older), translated(repository):
        new, _ = browser().picture(repository, query.new, query.platform)
        assert new.config is not None
        old, _ = browser().picture(older, query.old, query.platform or str(new.config.platform))
        assert old.config is not None
        layers = _layers(old), _layers(new)
        if max(len(each) for each in layers) > _LAYERS:
            raise InvalidRequestError(f"images of more than {_LAYERS} layers are not compared")
        asked = browser().listings.compared((older, layers[0]), (repository, layers[1]))
    return ComparedImages(
        new.size_bytes - old.size_bytes,
        len({each.digest for each in layers[0]} & {each.digest for each in layers[1]}),
        compare_settings(old.config, new.config),
        asked.found.files if asked.found is not None else None,
        asked.found.packages if asked.found is not None else None,
        asked.progress,
        asked.fault,
    )


@api.endpoint("GET", "/projects/{project}/commits/{commit}", scope="read", errors={404: "No run is of such a commit"})
def show_commit(call: Call, project: ProjectName, commit: Annotated[str, msgspec.Meta(max_length=64)]) -> CommitView:
    """Show the runs of a commit, and the images that they made. The first seven digits suffice."""
    call.service.projects.get(project)
    whole = call.service.trails.commit(project, commit)
    numbers = [run.number for run in call.service.trails.runs_of(project, whole, limit=_RUNS)]
    made = call.service.trails.images_of(numbers)
    images = [
        each
        for number in numbers
        for each in made.get(number, ())
        if may_repository(call.service, call.rights, "read", each.repository)
    ]
    return CommitView(whole, numbers, images)


def _layers(view: ImageView) -> list[Descriptor]:
    return [layer.descriptor for layer in view.layers if layer.descriptor is not None]
