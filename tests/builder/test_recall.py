"""Builds that are answered by what the last one came to, and all that must keep them from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder import recall as recalling
from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.contexts.keys import context_key
from builder.contexts.kinds import NamedImage
from builder.copying import selecting
from builder.copying.contextfiles import ContextFiles
from builder.recall import may_be_recalled, recall
from builder.request.request import BuildRequest, Output
from builder.result import RecalledResult
from core.events import BuildPlanned, StepFinished, Warned
from core.references import Reference
from core.trust import of_user
from dockerfile_grammar import IgnorePatterns
from images.store import Store
from tests.builder.workshops import Steps, Workshop, workshop

pytestmark = pytest.mark.usefixtures("privileged")

NAME = Reference.parse("app:latest")
TEXT = """\
FROM base AS first
ARG VERSION
WORKDIR /made
COPY f /made/
FROM base
COPY --from=first /made /copied
LABEL a=b
"""


class Shop:
    """Builds by ``recall`` and, where that has no answer, by ``build``, as the command does."""

    def __init__(self, made: Workshop) -> None:
        self.made = made
        self.store: Store = made.store
        self.context = made.context
        self.text = TEXT
        self.options: dict[str, Any] = {}

    def build(self, text: str | None = None, **options: Any) -> Any:
        self.seen = Steps()
        given = {"outputs": (Output("image", names=(NAME,)),), **self.options, **options}
        ignore = given.pop("ignore", None)
        with Context.open_directory(str(self.context), ignore) as context:
            request = BuildRequest((text or self.text).encode(), "Dockerfile", context, **given)
            files = ContextFiles(request, self.store)
            known = recall(request, self.store, self.seen, files)
            return known or build(request, BuildTools(self.store, self.made.launcher, self.seen, files=files))

    def told(self) -> list[tuple[str, str]]:
        """The steps by name, each with how it ended, in the Dockerfile's order."""
        ends = {event.id: event.outcome for event in self.seen.events if isinstance(event, StepFinished)}
        planned = [step for event in self.seen.events if isinstance(event, BuildPlanned) for step in event.steps]
        return [(step.name, ends[step.id]) for step in planned]


@pytest.fixture
def shop(tmp_path: Path, busybox_tar: Path) -> Iterator[Shop]:
    with workshop(tmp_path, busybox_tar) as made:
        yield Shop(made)


def test_build_of_nothing_new_is_recalled_and_told_like_one_from_the_cache(shop: Shop) -> None:
    ran = shop.build()
    again = shop.build()
    assert isinstance(again, RecalledResult)
    assert (again.config_digest, again.manifest_digest) == (ran.config_digest, ran.manifest_digest)
    assert again.root == ran.root
    assert again.names == (NAME,)
    recalled = shop.told()
    solved = shop.build(f"{TEXT}\n# a comment")  # the same, and not recalled
    assert not isinstance(solved, RecalledResult)
    assert recalled == shop.told()
    assert (again.executed, again.cached) == (solved.executed, solved.cached) == (0, 3)


def test_warnings_are_told_again(shop: Shop) -> None:
    shop.build(build_args={"VERSION": "1", "UNUSED": "2"})
    warned = [event for event in shop.seen.events if isinstance(event, Warned)]
    assert warned
    assert isinstance(shop.build(build_args={"VERSION": "1", "UNUSED": "2"}), RecalledResult)
    assert [event for event in shop.seen.events if isinstance(event, Warned)] == warned


def test_what_was_built_without_asking_the_cache_is_recalled(shop: Shop) -> None:
    first = shop.build(no_cache=True)
    assert isinstance(shop.build(), RecalledResult)
    assert shop.build().config_digest == first.config_digest


def _file_of_the_same_size(shop: Shop) -> None:
    file = shop.context / "f"
    status = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _mode(shop: Shop) -> None:
    (shop.context / "f").chmod(0o755)


def _file_is_gone(shop: Shop) -> None:
    (shop.context / "f").unlink()
    (shop.context / "f").mkdir()


def _base(shop: Shop) -> None:
    shop.build("FROM base\nLABEL c=d\n", outputs=(Output("image", names=(Reference.parse("base:latest"),)),))


def _record(shop: Shop) -> None:
    with shop.store.database.transaction() as connection:
        connection.execute("DELETE FROM records WHERE description LIKE '%WORKDIR%'")


def _record_of_another_time(shop: Shop) -> None:
    with shop.store.database.transaction() as connection:
        connection.execute("UPDATE records SET created_at = created_at + 1 WHERE description LIKE '%WORKDIR%'")


def _image(shop: Shop) -> None:
    shop.store.images.remove("app")


def _text(shop: Shop) -> None:
    shop.text += "LABEL e=f\n"


def _another_build(shop: Shop) -> None:
    shop.build("FROM base\nWORKDIR /elsewhere\n")


def _ignore(shop: Shop) -> None:
    shop.options["ignore"] = IgnorePatterns.parse("other\n", filename=".dockerignore")


def _option(**options: Any) -> Callable[[Shop], None]:
    return lambda shop: shop.options.update(options)


@pytest.mark.parametrize(
    "change",
    [
        _file_of_the_same_size, _mode, _file_is_gone, _base, _record, _record_of_another_time, _image, _text,
        _another_build, _ignore, _option(no_cache=True), _option(pull=True), _option(target="first"),
        _option(build_args={"VERSION": "1"}), _option(labels={"g": "h"}), _option(network="none"),
        _option(add_hosts=(("a", "10.0.0.1"),)), _option(no_cache_stages=("first",)), _option(source_date_epoch=0),
        _option(secrets={"token": b"1234"}), _option(domain=of_user("p", "ann")),
    ],
)  # fmt: skip
def test_what_has_changed_is_not_recalled(shop: Shop, change: Callable[[Shop], None]) -> None:
    shop.build()
    assert isinstance(shop.build(), RecalledResult)
    change(shop)
    assert not isinstance(shop.build(), RecalledResult)


def test_step_that_had_a_secret_is_not_recalled_without_it(shop: Shop) -> None:
    shop.text = "FROM base\nRUN --mount=type=secret,id=token true\n"
    for secrets in ({"token": b"1234"}, {}, {"other": b"1234"}):
        shop.build(secrets=secrets)
        assert isinstance(shop.build(secrets=secrets), RecalledResult)
    shop.build(secrets={"token": b"1234"})
    assert isinstance(shop.build(secrets={"token": b"4321"}), RecalledResult)  # at the host the presence counts
    assert shop.build().cached == 1


def test_other_code_recalls_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build()
    monkeypatch.setattr(recalling, "_code", lambda: "of tomorrow")
    assert not isinstance(shop.build(), RecalledResult)


def test_outcome_of_another_version_is_none(shop: Shop) -> None:
    shop.build()
    with shop.store.database.transaction() as connection:
        connection.execute("UPDATE memo SET data = ? WHERE kind = 'outcome'", (b"[1,2]",))
    assert not isinstance(shop.build(), RecalledResult)


def test_name_that_was_moved_comes_back_to_the_image(shop: Shop) -> None:
    built = shop.build()
    other = shop.store.images.resolve("base")
    shop.store.images.tag(NAME, other.id)
    assert isinstance(shop.build(), RecalledResult)
    assert shop.store.images.resolve("app").id == built.config_digest


def test_image_gets_the_names_that_are_asked_for_now(shop: Shop) -> None:
    built = shop.build()
    more = Reference.parse("more:1")
    again = shop.build(outputs=(Output("image", names=(NAME, more)),))
    assert isinstance(again, RecalledResult)
    assert shop.store.images.resolve("more:1").id == built.config_digest


def test_files_that_were_read_in_vain_are_not_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build()
    (shop.context / "f").write_text("new")
    selected: list[str] = []
    select = selecting.select

    def counting(tree: Any, spec: Any) -> Any:
        selected.append(str(spec.sources))
        return select(tree, spec)

    monkeypatch.setattr(selecting, "select", counting)
    assert shop.build().executed == 2
    assert selected.count("('f',)") == 1


def test_base_of_an_index_is_not_recalled(shop: Shop) -> None:
    """Which of its images is meant depends on more than the name."""
    built = shop.build("FROM base\nWORKDIR /x\n")
    data = shop.store.blobs.read(built.manifest_digest)
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": len(data)}
    entry["digest"] = str(built.manifest_digest)
    text = f'{{"schemaVersion":2,"manifests":[{entry}]}}'.replace("'", '"')
    shop.store.images.indexes.put(text.encode(), names=(Reference.parse("both:latest"),))
    shop.build("FROM both\nWORKDIR /y\n")
    assert not isinstance(shop.build("FROM both\nWORKDIR /y\n"), RecalledResult)


def test_requests_for_more_than_an_image_in_the_store_are_never_recalled(shop: Shop) -> None:
    with Context.open_directory(str(shop.context)) as context:

        def request(**options: Any) -> BuildRequest:
            return BuildRequest(b"FROM base\n", "Dockerfile", context, **options)

        assert may_be_recalled(request())
        assert not may_be_recalled(request(outputs=()))
        assert not may_be_recalled(request(outputs=(Output("oci", "/x"),)))
        assert not may_be_recalled(request(outputs=(Output("image", push=True),)))
        assert not may_be_recalled(request(named_contexts={context_key("a"): NamedImage("b")}))
        assert not may_be_recalled(request(build_args={"SOURCE_DATE_EPOCH": "1"}))
        assert not may_be_recalled(request(build_args={"BUILDKIT_INLINE_CACHE": "1"}))
        assert not may_be_recalled(request(build_args={"BUILDKIT_MULTI_PLATFORM": "1"}))


def test_build_arguments_are_not_kept_as_text(shop: Shop) -> None:
    shop.build(build_args={"HTTP_PROXY": "http://user:opensesame@proxy"})
    kept = shop.store.database.all("SELECT key, data FROM memo WHERE kind = 'outcome'")
    assert kept
    assert all("opensesame" not in key and b"opensesame" not in data for key, data in kept)
