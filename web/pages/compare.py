"""What two images, or two runs, differ in: packages, files, layers, settings, times, and the commits between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from core.digests import Digest
from images.comparing import ChangedName, compare_settings, compare_versions, pair_layers
from pipelines.model import Run
from pipelines.runs.trail import Maker
from registry.server.browse import ImageView
from web.backing import browser, service
from web.errors import InvalidRequestError
from web.guard.rights import Target, check
from web.pages.frame import page
from web.pages.image import MOST_LAYERS, layers_of
from web.pages.images import translated
from web.pages.trail import image_chips, maker_of, own_registries
from web.runcomparison import asked_otherwise, commits_between, older_first, times

of_images: Final = Blueprint("compare_pages", __name__)
of_runs: Final = Blueprint("run_compare_pages", __name__)

Tab: TypeAlias = Literal["packages", "files", "layers", "settings", "times"]
_SHOWN: Final = 1000


class Side(NamedTuple):
    """One of two images. of: the digest of the index that it was found by; empty without one."""

    repository: str
    reference: str
    view: ImageView
    of: str
    maker: Maker | None

    @property
    def shown(self) -> str:
        digest = self.reference.startswith("sha256:")
        short = Digest(self.reference).hex[:12] if digest else self.reference
        return f"{self.repository}{'@' if digest else ':'}{short}"

    @property
    def path(self) -> str:
        return f"/images/{self.repository}/-/{self.reference}"

    @property
    def digests(self) -> list[str]:
        return [layer.digest for layer in layers_of(self.view)]


@of_images.get("/images/<path:repository>/-/<reference>/compare")
def compare_images(repository: str, reference: str) -> Response:
    """What an image has become since another one. with: a tag, REPOSITORY:TAG or REPOSITORY@DIGEST."""
    wanted = request.args.get("with", "").strip()[:400]
    other, its = _named(wanted, repository)
    check(service(), g.rights, "read", Target(repository=other))
    with translated():
        new = _side(repository, reference)
        old = _side(other, its, str(new.view.config.platform) if new.view.config else "")
        shown = _compared(old, new)
    if request.headers.get("HX-Request"):
        return page("compare_parts.html", **shown)
    return page("compare.html", **shown, wanted=wanted)


@of_runs.get("/runs/<int:number>/compare")
def choose_run(number: int) -> Response:
    """To the comparison with the run of this number: as a form gives it."""
    other = request.args.get("with", "").strip().removeprefix("#")
    if not (other.isascii() and other.isdigit() and len(other) < 10):
        raise InvalidRequestError(f"{other[:40]!r} is no number of a run", hint="write 482, or #482")
    return redirect(f"/runs/{number}/compare/{int(other)}", 303)


@of_runs.get("/runs/<int:number>/compare/<int:other>")
def compare_runs(number: int, other: int) -> Response:
    """What a run did otherwise than another one; the older one is looked at first."""
    check(service(), g.rights, "read", Target(run=other))
    older, newer = older_first(number, other)
    made = service().trails.images_of([older.number, newer.number])
    chips = {run: {chip.path: chip for chip in image_chips(its)} for run, its in made.items()}
    pairs = [
        (old, new)
        for old in chips.get(older.number, {}).values()
        for new in chips.get(newer.number, {}).values()
        if old.path != new.path and _repository(old.path) == _repository(new.path)
    ]
    return page(
        "compare_runs.html",
        old=older,
        new=newer,
        times=times(older, newer),
        settings=asked_otherwise(older, newer),
        pairs=pairs,
        same=[chip for path, chip in chips.get(older.number, {}).items() if path in chips.get(newer.number, {})],
        **_commits(older, newer),
    )


def _named(wanted: str, repository: str) -> tuple[str, str]:
    """Repository and reference. Raises InvalidRequestError."""
    for own in own_registries():
        wanted = wanted.removeprefix(f"{own}/")
    if "@" in wanted:
        name, _, reference = wanted.partition("@")
        found = name.partition(":")[0] or repository, reference
    elif wanted.startswith("sha256:"):
        found = repository, wanted
    else:
        name, colon, tag = wanted.rpartition(":")
        found = (name or repository, tag) if colon or "/" not in wanted else (wanted, "latest")
    if not all(found):
        raise InvalidRequestError("nothing to compare with", hint="name a tag, or REPOSITORY:TAG")
    return found


def _side(repository: str, reference: str, platform: str = "") -> Side:
    view, index = browser().picture(repository, reference, platform)
    if len(layers_of(view)) > MOST_LAYERS:
        raise InvalidRequestError(f"{repository} {reference[:80]} has more than {MOST_LAYERS} layers")
    return Side(repository, reference, view, index, maker_of(repository, index or view.manifest.digest))


def _compared(old: Side, new: Side) -> dict[str, Any]:
    assert old.view.config is not None
    assert new.view.config is not None
    files = browser().listings.compared((old.repository, layers_of(old.view)), (new.repository, layers_of(new.view)))
    packages, source = _packages(old, new), "the images' SBOMs"
    if packages is None and files.found is not None:
        packages, source = files.found.packages, "the system's package databases"
    pairs = pair_layers(old.digests, new.digests)
    runs = _runs(old, new)
    tab = request.args.get("tab", "")
    return {
        "old": old,
        "new": new,
        "tab": tab if tab in get_args(Tab) else "files" if packages is None and files.found is not None else "packages",
        "link": {"with": request.args.get("with", "")[:400]},
        "size": new.view.size_bytes - old.view.size_bytes,
        "asked": files,
        "files": files.found.files if files.found is not None else None,
        "packages": packages[:_SHOWN] if packages is not None else None,
        "package_counts": _counts(packages or []),
        "source": source,
        "pairs": pairs,
        "same_layers": sum(pair.is_same for pair in pairs),
        "is_base_same": bool(pairs) and pairs[0].is_same,
        "old_layers": [layer for layer in old.view.layers if layer.descriptor is not None],
        "new_layers": [layer for layer in new.view.layers if layer.descriptor is not None],
        "settings": compare_settings(old.view.config, new.view.config),
        "times": times(*runs) if runs is not None else [],
        "runs": runs,
        **(_commits(*runs) if runs is not None else {"commits": (), "people": 0}),
    }


def _packages(old: Side, new: Side) -> list[ChangedName] | None:
    """The packages that changed, by the SBOMs of both; None where one has none."""
    lists = []
    for side in (old, new):
        above = browser().image(side.repository, side.of) if side.of else None
        found = browser().packages(side.repository, above, side.view.manifest.digest) if above is not None else []
        if not found:
            return None
        lists.append([(package.name, package.version) for package in found])
    return compare_versions(*lists)


def _runs(old: Side, new: Side) -> tuple[Run, Run] | None:
    if old.maker is None or new.maker is None or old.maker.run == new.maker.run:
        return None
    return service().runs.get(old.maker.run), service().runs.get(new.maker.run)


def _commits(old: Run, new: Run) -> dict[str, Any]:
    between = commits_between(old, new)
    return {"commits": between, "people": len({each.by for each in between if each.by})}


def _counts(changed: Sequence[ChangedName]) -> dict[str, int]:
    return {name: sum(each.change == name for each in changed) for name in ("added", "modified", "removed")}


def _repository(path: str) -> str:
    return path.partition("/-/")[0]
