"""``shiplap image …`` on a small store, called in this process."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from core.platforms import Platform
from core.references import Reference
from images.oci import ContainerConfig, History, ImageConfig
from images.store import Store

Command = Callable[..., str]


def _layer(store: Store, name: str, data: bytes) -> Any:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    with store.layers.writer() as writer:
        writer.write(buffer.getvalue())
        return writer.commit()


def _config(cmd: str) -> ImageConfig:
    return ImageConfig(
        architecture=Platform.host().architecture,
        os="linux",
        created="2024-05-06T07:08:09Z",
        config=ContainerConfig(cmd=(cmd,), env=("A=1",)),
        history=(
            History(created="2024-05-06T07:08:08Z", created_by="COPY f / # buildkit", comment="buildkit.dockerfile.v0"),
            History(created="2024-05-06T07:08:09Z", created_by=f'CMD ["{cmd}"]', empty_layer=True),
        ),
    )


@pytest.fixture
def ids(tmp_path: Path) -> dict[str, str]:
    """A store with the image ``app:latest`` = ``team/app:1``, and one without a name. Returns their IDs."""
    with Store.open(tmp_path / "root") as store:
        layer = _layer(store, "f", b"content")
        named = store.images.put(_config("serve"), [layer])
        store.images.tag(Reference.parse("app:latest"), named.id)
        store.images.tag(Reference.parse("team/app:1"), named.id)
        unnamed = store.images.put(_config("other"), [layer])
    return {"app": named.id, "unnamed": unnamed.id}


@pytest.fixture
def shiplap_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that has to exit with ``code`` and returns what it printed (to stderr when it fails)."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        got = main(["--root", str(tmp_path / "root"), *map(str, arguments)])
        captured = capsys.readouterr()
        assert got == code, captured.err
        return captured.out if code == 0 else captured.out + captured.err

    return run


def test_ls_of_nothing_is_a_header(shiplap_here: Command) -> None:
    assert shiplap_here("image", "ls").split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert json.loads(shiplap_here("image", "ls", "--json")) == []
    assert shiplap_here("image", "ls", "-q") == ""


def test_ls_has_a_row_for_each_name(shiplap_here: Command, ids: dict[str, str]) -> None:
    rows = [re.split(r" {2,}", line) for line in shiplap_here("images").splitlines()[1:]]
    short = {name: image.removeprefix("sha256:")[:12] for name, image in ids.items()}
    assert sorted((row[0], row[1], row[2]) for row in rows) == [
        ("<none>", "<none>", short["unnamed"]),
        ("app", "latest", short["app"]),
        ("team/app", "1", short["app"]),
    ]
    assert all(row[3].endswith("ago") and row[4] == "10.2kB" for row in rows)


@pytest.mark.parametrize(
    ("pattern", "found"), [("app", ["app"]), ("team/*", ["team/app"]), ("app:latest", ["app"]), ("app:2", [])]
)
def test_ls_selects_by_name(shiplap_here: Command, ids: dict[str, str], pattern: str, found: list[str]) -> None:
    lines = shiplap_here("image", "ls", pattern).splitlines()[1:]
    assert [line.split()[0] for line in lines] == found


def test_ls_as_json_has_an_object_for_each_image(shiplap_here: Command, ids: dict[str, str]) -> None:
    documents = {document["id"]: document for document in json.loads(shiplap_here("image", "ls", "--json"))}
    assert set(documents) == set(ids.values())
    app = documents[ids["app"]]
    assert app["names"] == ["app:latest", "team/app:1"]
    assert app["created"] == "2024-05-06T07:08:09Z"
    assert app["platform"] == str(Platform.host())
    assert app["size_bytes"] == 10240


def test_ls_quiet_prints_each_id_once(shiplap_here: Command, ids: dict[str, str]) -> None:
    assert sorted(shiplap_here("image", "ls", "-q", "--no-trunc").split()) == sorted(ids.values())
    assert len(shiplap_here("images", "-q").split()) == 2


def test_ls_prints_what_a_template_says(shiplap_here: Command, ids: dict[str, str]) -> None:
    form = "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}} {{.Platform}} {{.Containers}} {{.Digest}}"
    lines = shiplap_here("image", "ls", "--no-trunc", "--format", form).splitlines()
    assert sorted(line.split()[0] for line in lines) == ["<none>:<none>", "app:latest", "team/app:1"]
    (line,) = (line for line in lines if line.startswith("app"))
    assert f" {ids['app']} " in line
    assert line.endswith(f" ago {Platform.host()} N/A <none>")
    assert shiplap_here("images", "--format", "{{.Tag}}", "team/app") == "1\n"
    assert shiplap_here("image", "ls", "--digests").split()[2] == "DIGEST"
    assert "can't evaluate field Names" in shiplap_here("image", "ls", "--format", "{{.Names}}", code=1)


def test_ls_keeps_to_filters(shiplap_here: Command, ids: dict[str, str]) -> None:
    def found(*filters: str) -> list[str]:
        return shiplap_here("image", "ls", "-q", "--no-trunc", *(f"--filter={each}" for each in filters)).split()

    assert found("dangling=true") == [ids["unnamed"]]
    assert found("dangling=false") == found("reference=app") == found("reference=team/*") == [ids["app"]]
    assert found("reference=t*") == found("label=a") == found("dangling=true", "reference=app") == []
    assert found("until=2020-01-01T00:00:00Z") == []
    assert sorted(found("until=2025-01-01T00:00:00Z")) == sorted(ids.values())
    assert found("since=app") == found("before=app") == []
    assert "invalid filter 'nothing'" in shiplap_here("image", "ls", "--filter", "nothing=1", code=1)


def test_history_prints_what_a_template_says(shiplap_here: Command, ids: dict[str, str]) -> None:
    del ids
    assert shiplap_here("history", "--format", "{{.CreatedBy}}|{{.Comment}}", "app").splitlines() == [
        'CMD ["serve"]|', "COPY f / # buildkit|buildkit.dockerfile.v0",
    ]  # fmt: skip
    said = shiplap_here("history", "--human=false", "app").splitlines()
    assert re.search(r"2024-05-06 \d\d:\d\d:08 .* 10240 ", said[2])


def test_inspect_has_dockers_members(shiplap_here: Command, ids: dict[str, str]) -> None:
    (document,) = json.loads(shiplap_here("image", "inspect", "app"))
    assert document["Id"] == ids["app"]
    assert document["RepoTags"] == ["app:latest", "team/app:1"]
    assert document["Config"] == {"Cmd": ["serve"], "Env": ["A=1"]}
    assert document["RootFS"]["Type"] == "layers"
    assert len(document["RootFS"]["Layers"]) == 1


def test_inspect_prints_what_a_template_says(shiplap_here: Command, ids: dict[str, str]) -> None:
    assert shiplap_here("image", "inspect", "-f", "{{.Id}} {{index .Config.Cmd 0}}", "app") == f"{ids['app']} serve\n"


def test_inspect_shows_what_it_found_and_fails_for_the_rest(shiplap_here: Command, ids: dict[str, str]) -> None:
    text = shiplap_here("inspect", "app", "nothing", code=1)
    assert '"Id"' in text
    assert "error: No such object: nothing" in text


def test_unknown_image_is_answered_with_a_near_name(shiplap_here: Command, ids: dict[str, str]) -> None:
    assert "did you mean app:latest" in shiplap_here("image", "history", "ap", code=1)


def test_history_is_newest_first_with_sizes(shiplap_here: Command, ids: dict[str, str]) -> None:
    lines = shiplap_here("image", "history", "app").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(ids["app"].removeprefix("sha256:")[:12])
    assert 'CMD ["serve"]' in lines[1]
    assert re.split(r" {2,}", lines[2])[2:] == ["COPY f / # buildkit", "10.2kB", "buildkit.dockerfile.v0"]
    documents = json.loads(shiplap_here("history", "--json", "app"))
    assert [document["empty_layer"] for document in documents] == [True, False]


def test_diff_says_what_changed_from_one_image_to_another(
    shiplap_here: Command, ids: dict[str, str], tmp_path: Path
) -> None:
    with Store.open(tmp_path / "root") as store:
        layers = [_layer(store, "f", b"another"), _layer(store, "g", b"new")]
        store.images.tag(Reference.parse("app:2"), store.images.put(_config("serve"), layers).id)
    text = shiplap_here("image", "diff", "app", "app:2")
    assert "files     +1 ~1 -0" in text
    assert text.endswith("Files:\n~ /f  (content)\n+ /g\n")
    found = json.loads(shiplap_here("image", "diff", "app", ids["unnamed"], "--json"))
    assert found["settings"] == [{"name": "command", "old": '["serve"]', "new": '["other"]'}]
    assert found["files"]["paths"] == []
    assert "and 1 more: --limit shows them" in shiplap_here("image", "diff", "app", "app:2", "--limit", "1")


def test_tag_gives_another_name_and_moves_it(shiplap_here: Command, ids: dict[str, str]) -> None:
    shiplap_here("image", "tag", ids["unnamed"], "app")
    (document,) = json.loads(shiplap_here("image", "inspect", "app"))
    assert document["Id"] == ids["unnamed"]
    assert "lower case" in shiplap_here("tag", "app", "App", code=1)


def test_rm_untags_then_deletes_and_goes_on_after_an_error(shiplap_here: Command, ids: dict[str, str]) -> None:
    assert shiplap_here("image", "rm", "app") == "Untagged: app:latest\n"
    text = shiplap_here("rmi", "nothing", "team/app:1", code=1)
    assert "error: no such image: nothing" in text
    assert f"Deleted: {ids['app']}" in text


def test_rm_of_an_id_with_several_names_needs_force(shiplap_here: Command, ids: dict[str, str]) -> None:
    assert "--force" in shiplap_here("image", "rm", ids["app"], code=1)
    assert f"Deleted: {ids['app']}" in shiplap_here("image", "rm", "-f", ids["app"])


def test_prune_removes_images_without_names(shiplap_here: Command, ids: dict[str, str]) -> None:
    text = shiplap_here("image", "prune")
    assert ids["unnamed"] in text
    assert "Total reclaimed space: " in text
    assert json.loads(shiplap_here("image", "ls", "--json"))[0]["id"] == ids["app"]


def test_prune_of_everything_asks_first(
    shiplap_here: Command, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--force" in shiplap_here("image", "prune", "--all", code=1)
    shiplap_here("image", "prune", "--all", "--older-than", "1h", "--force")
    assert ids["app"] in shiplap_here("image", "ls", "-q", "--no-trunc")
    shiplap_here("image", "prune", "--all", "--cache", "--force")
    assert shiplap_here("image", "ls", "-q") == ""


def test_a_lost_database_is_refused_and_made_again(shiplap_here: Command, ids: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "root" / "store.db").write_bytes(b"")
    for command in (("image", "ls"), ("image", "prune", "--all", "--force")):
        assert "shiplap image verify --rebuild" in shiplap_here(*command, code=1)
    told = shiplap_here("image", "verify", "--rebuild")
    assert "2 images" in told
    assert set(ids.values()) <= {line.partition(": ")[0] for line in told.splitlines()}
    assert "  names of images\n" in told
    shiplap_here("image", "tag", ids["app"][7:19], "app:again")
    assert "again" in shiplap_here("image", "ls", "app")
    assert "taken in: 0 blobs, 0 images, 0 indexes" in shiplap_here("image", "verify", "--rebuild")


def test_verify_finds_damage(shiplap_here: Command, ids: dict[str, str], tmp_path: Path) -> None:
    assert shiplap_here("image", "verify") == "all content matches its digests\n"
    blob = tmp_path / "root" / "blobs" / "sha256" / ids["app"].removeprefix("sha256:")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"serve", b"sirve"))
    assert ids["app"] in shiplap_here("image", "verify", code=1)


def test_root_that_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--root", str(tmp_path / "file" / "root"), "image", "ls"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "--root" in message
