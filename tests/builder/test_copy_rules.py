"""COPY into an image, rule by rule: where files land, what they look like there, and what is refused.

The rules are those of BuildKit; each was tried on one.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from builder.errors import (
    CopyConflictError,
    CopyError,
    ModeError,
    OwnerError,
    SourceNotFoundError,
)
from tests.builder.copying_tools import CREATED_AT, OLD, Bench, make_socket, make_tree


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# 1: files and trailing slashes


def test_copy_file_to_a_name(bench: Bench) -> None:
    bench.context({"f": "1"})
    layer = bench.copy("f", "/a")
    assert layer.names() == ["a"]
    assert layer.content["a"] == "1"


def test_copy_file_to_directory_with_trailing_slash(bench: Bench) -> None:
    bench.context({"f": "1"})
    assert bench.copy("f", "/a/").names() == ["a", "a/f"]


def test_copy_file_to_directory_written_with_a_dot(bench: Bench) -> None:
    bench.context({"f": "1"})
    assert bench.copy("f", "/a/.").names() == ["a", "a/f"]


def test_copy_file_to_existing_directory(bench: Bench) -> None:
    bench.context({"f": "1"})
    bench.rootfs({"a/": None})
    assert bench.copy("f", "/a").names() == ["a", "a/f"]


def test_copy_file_over_a_file_replaces_it(bench: Bench) -> None:
    bench.context({"f": "new"})
    bench.rootfs({"a": "old"})
    assert bench.copy("f", "/a").content == {"a": "new"}


def test_copy_with_slash_behind_a_file_source_is_that_file(bench: Bench) -> None:
    bench.context({"f": "1"})
    assert bench.copy("f/", "/x").names() == ["x"]
    assert bench.copy("f/.", "/x").names() == ["x"]


# 2: directories


@pytest.mark.parametrize("written", ["d", "d/", "d/.", "./d", "/d", "x/../d", "../d"])
@pytest.mark.parametrize("destination", ["/n", "/n/"])
def test_copy_directory_copies_its_contents_never_itself(bench: Bench, written: str, destination: str) -> None:
    bench.context({"d/f": "1", "d/e/g": "2", "x/y": ""})
    layer = bench.copy(written, destination)
    assert layer.names() == ["n", "n/e", "n/e/g", "n/f"]


def test_copy_of_the_whole_context(bench: Bench) -> None:
    bench.context({"f": "1", "d/g": "2"})
    assert bench.copy(".", "/").names() == ["d", "d/g", "f"]


def test_copy_empty_directory_makes_the_destination(bench: Bench) -> None:
    bench.context({"d/": None})
    assert bench.copy("d", "/n").names() == ["n"]


def test_new_top_directory_does_not_take_the_mode_of_the_source(bench: Bench) -> None:
    bench.context({"d/:700": None, "d/e/:711": None})
    layer = bench.copy("d", "/n")
    assert layer["n"].mode == 0o755
    assert layer["n/e"].mode == 0o711


# 3: clamping


def test_sources_outside_of_the_context_clamp_to_its_root(bench: Bench) -> None:
    bench.context({"f": "1"})
    (bench.base / "f").write_text("secret")
    for written in ("../f", "/../../f", "/f", "../../../f"):
        assert bench.copy(written, "/x").content == {"x": "1"}


def test_from_sources_resolve_from_the_root_of_the_stage(bench: Bench) -> None:
    stage = make_tree(bench.base / "stage", {"f": "1", "work/f": "2"})
    assert bench.copy_from(stage, "f", "/x").content == {"x": "1"}
    assert bench.copy_from(stage, "../f", "/x").content == {"x": "1"}


# 4: globs


def test_glob_matches_with_go_rules(bench: Bench) -> None:
    bench.context({"a1": "", "a2": "", "b1": "", "ab/c": "", ".a": ""})
    assert bench.copy("a?", "/x/").names() == ["x", "x/a1", "x/a2", "x/c"]
    assert bench.copy("[ab]1", "/x/").names() == ["x", "x/a1", "x/b1"]
    assert bench.copy("*", "/x/").names() == ["x", "x/.a", "x/a1", "x/a2", "x/b1", "x/c"]


def test_glob_matched_directories_contribute_their_contents(bench: Bench) -> None:
    bench.context({"d1/f": "", "d2/g": "", "d3": ""})
    assert bench.copy("d*", "/x/").names() == ["x", "x/d3", "x/f", "x/g"]


def test_glob_in_the_middle_of_a_path(bench: Bench) -> None:
    bench.context({"a/x/f": "", "b/x/g": "", "c/y/h": ""})
    assert bench.copy("*/x/*", "/o/").names() == ["o", "o/f", "o/g"]


def test_glob_that_matches_nothing_is_a_no_op(bench: Bench) -> None:
    bench.context({"f": ""})
    assert bench.copy("nothing*", "/x/").names() == []
    assert bench.copy("f", "nothing*", "/x/").names() == ["x", "x/f"]


def test_glob_in_a_missing_directory_fails(bench: Bench) -> None:
    with pytest.raises(SourceNotFoundError, match=r'"/nodir" not found'):
        bench.copy("nodir/*.txt", "/x/")


def test_glob_that_is_malformed_is_an_error(bench: Bench) -> None:
    with pytest.raises(CopyError, match="malformed") as caught:
        bench.copy("a[", "/x")
    assert caught.value.hint is not None


def test_glob_does_not_look_through_symbolic_links_to_directories(bench: Bench) -> None:
    bench.context({"d/f": "1", "l": "-> d"})
    assert bench.copy("*/f", "/x/").names() == ["x", "x/f"]


def test_missing_literal_source_fails_and_says_where_it_looked(bench: Bench) -> None:
    bench.context({"requirements.txt": ""})
    with pytest.raises(SourceNotFoundError) as caught:
        bench.copy("requirments.txt", "/x")
    assert "COPY requirments.txt" in caught.value.message
    assert str(bench.context_path) in caught.value.message
    assert caught.value.hint == "did you mean requirements.txt?"


def test_missing_source_below_a_mistyped_directory_suggests_the_directory(bench: Bench) -> None:
    bench.context({"source/main.c": ""})
    with pytest.raises(SourceNotFoundError) as caught:
        bench.copy("sorce/main.c", "/x")
    assert caught.value.hint == "did you mean source?"


def test_missing_source_like_no_other_says_where_paths_begin(bench: Bench) -> None:
    bench.context({"a": "", "link": "-> away/there"})
    with pytest.raises(SourceNotFoundError) as caught:
        bench.copy("zzzzzzzz", "/x")
    assert caught.value.hint == "paths are relative to the build context, and files outside of it cannot be copied"
    with pytest.raises(
        SourceNotFoundError, match=r'"/link" not found in .* \(a symbolic link leads to "/away/there"\)'
    ):
        bench.copy("link/", "/x")


def test_one_missing_source_of_several_fails(bench: Bench) -> None:
    bench.context({"a": ""})
    with pytest.raises(SourceNotFoundError, match="nope"):
        bench.copy("a", "nope", "/x/")


def test_source_that_dockerignore_excludes_is_missing_and_the_error_says_why(bench: Bench) -> None:
    from dockerfile_grammar.ignore import IgnorePatterns

    bench.context({"secret": "", "f": ""})
    bench.ignore = IgnorePatterns.of(["secret"])
    with pytest.raises(SourceNotFoundError, match="dockerignore excludes it") as caught:
        bench.copy("secret", "/x")
    assert caught.value.hint == "add the line !secret to the end of .dockerignore"


# 5: symbolic links as sources


def test_source_link_is_followed_and_keeps_its_name(bench: Bench) -> None:
    bench.context({"d/f": "1", "lf": "-> d/f", "ld": "-> d"})
    assert bench.copy("lf", "/x/").content == {"x/lf": "1"}
    assert bench.copy("ld", "/x/").names() == ["x", "x/f"]
    assert bench.copy("ld/f", "/x/").names() == ["x", "x/f"]
    assert bench.copy("l*", "/x/").names() == ["x", "x/f", "x/lf"]


def test_source_link_stays_inside_the_context(bench: Bench) -> None:
    (bench.base / "outside").write_text("secret")
    bench.context({"etc/passwd": "mine", "out": "-> ../../../../../etc/passwd", "abs": "-> /etc/passwd"})
    assert bench.copy("out", "/x").content == {"x": "mine"}
    assert bench.copy("abs", "/x").content == {"x": "mine"}


def test_dangling_source_link_fails_naming_its_target(bench: Bench) -> None:
    bench.context({"l": "-> nowhere"})
    for written in ("l", "l*"):
        with pytest.raises(SourceNotFoundError, match='leads to "/nowhere"'):
            bench.copy(written, "/x")


def test_source_links_in_a_circle_fail(bench: Bench) -> None:
    bench.context({"a": "-> b", "b": "-> a"})
    with pytest.raises(CopyError, match="too many levels"):
        bench.copy("a", "/x")


def test_nested_links_stay_links(bench: Bench) -> None:
    bench.context({"d/l": "-> ../../etc/passwd", "d/dangling": "-> nowhere", "d/abs": "-> /etc"})
    layer = bench.copy("d", "/x/")
    assert [layer[f"x/{name}"].linkname for name in ("l", "dangling", "abs")] == ["../../etc/passwd", "nowhere", "/etc"]


# 6: destination links


ROOTFS = {
    "t/dir/file": "1",
    "t/dir/deep/": None,
    "t/dlink": "-> dir",
    "t/flink": "-> dir/file",
    "t/dangling": "-> nowhere",
    "t/abs": "-> /abs/t",
    "t/up": "-> ../../../up",
}


@pytest.mark.parametrize(
    ("destination", "lands"),
    [
        ("/t/dlink/x", "t/dir/x"),
        ("/t/dlink", "t/dir/f"),
        ("/t/dlink/", "t/dir/f"),
        ("/t/flink", "t/dir/file"),
        ("/t/dangling", "t/nowhere"),
        ("/t/dangling/", "t/nowhere/f"),
        ("/t/abs", "abs/t"),
        ("/t/up/x", "up/x"),
        ("/t/dlink/../x", "t/x"),  # cleaned before links are followed
        ("/../../x", "x"),
    ],
)
def test_destination_links_are_followed_inside_the_image(bench: Bench, destination: str, lands: str) -> None:
    bench.context({"f": "new"})
    bench.rootfs(ROOTFS)
    layer = bench.copy("f", destination)
    assert layer.content == {lands: "new"}
    assert not any(member.issym() for member in layer.values())


def test_destination_directory_link_receives_a_directory(bench: Bench) -> None:
    bench.context({"d/x": "1"})
    bench.rootfs(ROOTFS)
    assert bench.copy("d", "/t/dlink").content == {"t/dir/x": "1"}


def test_link_flag_does_not_look_at_the_image(bench: Bench) -> None:
    bench.context({"f": "1"})
    bench.rootfs({"t/:700": None, "t/dlink": "-> dir", "t/dir/": None})
    layer = bench.copy("f", "/t/dlink/f", link=True)
    assert layer.names() == ["t", "t/dlink", "t/dlink/f"]
    assert layer["t"].mode == 0o755


# 7: directories over files and the reverse


def test_directory_over_a_nested_file_is_an_error(bench: Bench) -> None:
    bench.context({"d/dir/file/": None})
    bench.rootfs(ROOTFS)
    with pytest.raises(CopyConflictError, match=r"directory dir/file of d to /t/dir/file: it is a file"):
        bench.copy("d", "/t")


@pytest.mark.parametrize("name", ["dlink", "flink", "dangling"])
def test_directory_over_a_nested_link_is_an_error(bench: Bench, name: str) -> None:
    bench.context({f"d/{name}/": None})
    bench.rootfs(ROOTFS)
    with pytest.raises(CopyConflictError, match=rf"/t/{name}: it is a symbolic link"):
        bench.copy("d", "/t")


def test_file_over_a_nested_directory_is_an_error(bench: Bench) -> None:
    bench.context({"d/dir": "file"})
    bench.rootfs(ROOTFS)
    with pytest.raises(CopyConflictError, match=r"cannot replace the directory /t/dir with the file dir of d"):
        bench.copy("d", "/t")


def test_file_over_a_directory_of_its_name_is_an_error(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs({"t/f/": None})
    with pytest.raises(CopyConflictError, match="/t/f"):
        bench.copy("f", "/t/")


@pytest.mark.parametrize("destination", ["/t/dir/file", "/t/dir/file/", "/t/dir/file/x"])
def test_directory_to_a_place_that_is_a_file_is_an_error(bench: Bench, destination: str) -> None:
    bench.context({"d/f": ""})
    bench.rootfs(ROOTFS)
    with pytest.raises(CopyConflictError, match="/t/dir/file is not a directory"):
        bench.copy("d", destination)


def test_file_below_a_file_is_an_error(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs(ROOTFS)
    for destination in ("/t/dir/file/x", "/t/flink/"):
        with pytest.raises(CopyConflictError, match="is not a directory"):
            bench.copy("f", destination)


def test_nested_file_over_a_link_replaces_the_link(bench: Bench) -> None:
    bench.context({"d/dlink": "2", "d/flink": "2", "d/dangling": "2"})
    bench.rootfs(ROOTFS)
    layer = bench.copy("d", "/t")
    assert layer.content == {"t/dlink": "2", "t/flink": "2", "t/dangling": "2"}


def test_later_source_replaces_what_an_earlier_one_made(bench: Bench) -> None:
    bench.context({"a/x": "1", "a/only": "a", "b/x": "2", "x": "3"})
    assert bench.copy("a", "b", "/o/").content == {"o/x": "2", "o/only": "a"}
    assert bench.copy("a", "x", "/o/").content == {"o/x": "3", "o/only": "a"}


def test_sources_that_contradict_each_other_are_an_error(bench: Bench) -> None:
    bench.context({"a/x/y": "", "b/x": ""})
    with pytest.raises(CopyConflictError):
        bench.copy("a", "b", "/o/")
    with pytest.raises(CopyConflictError):
        bench.copy("b", "a", "/o/")


# 8, 9: existing and created directories


def test_existing_top_destination_keeps_owner_and_mode(bench: Bench) -> None:
    bench.context({"d/:711": None, "d/f": ""})
    bench.rootfs({"t/:1777": None})
    os.chown(bench.base / "rootfs/t", 5, 6)
    layer = bench.copy("d", "/t")
    assert (layer["t"].mode, layer.owner("t")) == (0o1777, (5, 6))


def test_nested_existing_directories_take_mode_and_owner_of_the_source(bench: Bench) -> None:
    bench.context({"d/e/:711": None})
    bench.rootfs({"t/e/:1777": None})
    os.chown(bench.base / "rootfs/t/e", 5, 6)
    layer = bench.copy("d", "/t")
    assert (layer["t/e"].mode, layer.owner("t/e")) == (0o711, (0, 0))


def test_parents_that_exist_are_in_the_layer_as_they_are(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs({"var/:751": None, "var/tmp/:1777": None})
    os.chown(bench.base / "rootfs/var", 7, 8)
    os.setxattr(bench.base / "rootfs/var", "user.note", b"\0kept")
    layer = bench.copy("f", "/var/tmp/f")
    assert layer.names() == ["var", "var/tmp", "var/tmp/f"]
    assert (layer["var"].mode, layer.owner("var")) == (0o751, (7, 8))
    assert layer["var/tmp"].mode == 0o1777
    assert layer["var"].pax_headers["SCHILY.xattr.user.note"] == "\0kept"


def test_created_parents_are_0755_root(bench: Bench) -> None:
    bench.context({"f:4711": ""})
    layer = bench.copy("f", "/a/b/c")
    for name in ("a", "a/b"):
        assert (layer[name].mode, layer.owner(name), layer[name].mtime) == (0o755, (0, 0), CREATED_AT)


def test_chown_and_octal_chmod_apply_to_created_parents_too(bench: Bench) -> None:
    bench.context({"f": ""})
    layer = bench.copy("f", "/a/b/c", chown="5:6", chmod="750")
    assert layer.names() == ["a", "a/b", "a/b/c"]
    assert {(layer[name].mode, layer.owner(name)) for name in layer} == {(0o750, (5, 6))}


def test_symbolic_chmod_leaves_created_parents_alone(bench: Bench) -> None:
    bench.context({"f:600": ""})
    layer = bench.copy("f", "/a/f", chmod="go+r")
    assert (layer["a"].mode, layer["a/f"].mode) == (0o755, 0o644)


# 10: owners and special bits


def test_context_files_become_root_s(bench: Bench) -> None:
    bench.context({"d/f": ""})
    os.chown(bench.context_path / "d/f", 1000, 1000)
    assert bench.copy("d", "/x").owner("x/f") == (0, 0)


def test_files_of_a_stage_keep_their_owners(bench: Bench) -> None:
    stage = make_tree(bench.base / "stage", {"d/f": "", "d/e/": None})
    os.chown(stage / "d/f", 1000, 1001)
    os.chown(stage / "d/e", 2_000_000_000, 7)
    layer = bench.copy_from(stage, "/d", "/x")
    assert layer.owner("x/f") == (1000, 1001)
    assert layer.owner("x/e") == (2_000_000_000, 7)


def test_setuid_setgid_and_sticky_are_kept(bench: Bench) -> None:
    bench.context({"d/u:4755": "", "d/g:2755": "", "d/t/:1777": None})
    layer = bench.copy("d", "/x", chown="5:6")
    assert [layer[f"x/{name}"].mode for name in "ugt"] == [0o4755, 0o2755, 0o1777]


# 11, 12: --chown


PASSWD = {
    "etc/passwd": "root:x:0:0::/:\nbob:x:1000:1001::/home/bob:/bin/sh\n",
    "etc/group": "root:x:0:\nstaff:x:50:bob\n",
}


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("5:", (5, 0)),
        (":6", (0, 6)),
        ("bob", (1000, 1001)),
        ("bob:staff", (1000, 50)),
        ("9:staff", (9, 50)),
        ("bob:9", (1000, 9)),
        ("4294967294:4294967294", (4294967294, 4294967294)),
    ],
)
def test_chown_resolves_in_the_destination(bench: Bench, chown: str, owner: tuple[int, int]) -> None:
    bench.context({"d/f": ""})
    bench.rootfs(PASSWD)
    layer = bench.copy("d", "/x", chown=chown)
    assert (layer.owner("x"), layer.owner("x/f")) == (owner, owner)


@pytest.mark.parametrize(
    ("chown", "owner"),
    [("alice", (0, 0)), ("bob:nobodies", (1000, 1001)), ("alice:staff", (0, 50)), ("9:nobodies", (9, 9))],
)
def test_chown_to_a_missing_name_is_root_or_the_users_group(bench: Bench, chown: str, owner: tuple[int, int]) -> None:
    bench.context({"f": ""})
    bench.rootfs(PASSWD)
    assert bench.copy("f", "/x", chown=chown).owner("x") == owner


def test_chown_to_a_number_that_is_none_fails(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs(PASSWD)
    with pytest.raises(OwnerError, match="4294967295"):
        bench.copy("f", "/x", chown="4294967295")


def test_chown_numbers_need_no_passwd(bench: Bench) -> None:
    bench.context({"f": ""})
    assert bench.copy("f", "/x", chown="12:34").owner("x") == (12, 34)
    with pytest.raises(OwnerError):
        bench.copy("f", "/x", chown="bob")


def test_chown_passwd_behind_a_link_stays_inside_the_image(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs({"etc/passwd": "-> ../../../../private/passwd", "private/passwd": "bob:x:3:4::/:\n"})
    assert bench.copy("f", "/x", chown="bob").owner("x") == (3, 4)


def test_link_flag_cannot_resolve_names(bench: Bench) -> None:
    bench.context({"f": ""})
    bench.rootfs(PASSWD)
    assert bench.copy("f", "/x", chown="7:8", link=True).owner("x") == (7, 8)
    with pytest.raises(OwnerError, match="--link") as caught:
        bench.copy("f", "/x", chown="bob", link=True)
    assert "numbers" in (caught.value.hint or "")


# --chmod


@pytest.mark.parametrize(
    ("before", "chmod", "after"),
    [
        (0o644, "755", 0o755),
        (0o644, "0400", 0o400),
        (0o644, "7777", 0o7777),
        (0o666, "go-w", 0o644),
        (0o666, "u=rw,g=r,o=r", 0o644),
        (0o666, "a+X", 0o666),
        (0o645, "a+X", 0o755),
        (0o644, "u=rwX,go=rX", 0o644),
        (0o711, "u=rwX,go=rX", 0o755),
        (0o640, "+x", 0o751),
        (0o640, "+w", 0o662),
        (0o754, "o=g", 0o755),
        (0o754, "go=u-w", 0o755),
        (0o644, "u+s,g+s", 0o6644),
        (0o644, "a+s,+t", 0o7644),
        (0o4755, "u-s", 0o755),
        (0o4755, "u=rwx", 0o755),
        (0o644, "go=", 0o600),
        (0o644, "u+r-w", 0o444),
    ],
)
def test_copy_chmod(bench: Bench, before: int, chmod: str, after: int) -> None:
    bench.context({f"f:{before:o}": ""})
    assert oct(bench.copy("f", "/x", chmod=chmod).get("x", tarfile.TarInfo()).mode) == oct(after)


def test_symbolic_chmod_makes_directories_searchable(bench: Bench) -> None:
    bench.context({"d/f:600": "", "d/e/:700": None})
    layer = bench.copy("d", "/x", chmod="u=rwX,go=rX")
    assert (layer["x/f"].mode, layer["x/e"].mode) == (0o644, 0o755)


def test_chmod_leaves_links_alone(bench: Bench) -> None:
    bench.context({"d/l": "-> f", "d/f": ""})
    layer = bench.copy("d", "/x", chmod="600")
    assert (layer["x/l"].mode, layer["x/f"].mode) == (0o777, 0o600)


@pytest.mark.parametrize("chmod", ["8", "10000", "rwx", "u=q", "u", "755,", "=u+", "a=rwx,,o-r", "-1"])
def test_chmod_that_is_malformed_is_an_error(bench: Bench, chmod: str) -> None:
    bench.context({"f": ""})
    if chmod == "=u+":  # an operator without permissions is a valid, empty one
        bench.copy("f", "/x", chmod=chmod)
        return
    with pytest.raises(ModeError, match="invalid --chmod"):
        bench.copy("f", "/x", chmod=chmod)


# 15, 16, 17: times, attributes, links, sockets


def test_mtime_is_preserved_and_timestamp_overrides_it(bench: Bench) -> None:
    bench.context({"d/f": "", "d/e/": None})
    layer = bench.copy("d", "/x/y")
    assert (layer["x/y/f"].mtime, layer["x/y/e"].mtime, layer["x"].mtime) == (OLD, OLD, CREATED_AT)
    layer = bench.copy("d", "/x/y", timestamp=77)
    assert {member.mtime for member in layer.values()} == {77}


def test_user_attributes_and_file_capabilities_are_copied_also_after_chown(bench: Bench) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    bench.context({"d/f:755": "", "d/e/": None})
    os.setxattr(bench.context_path / "d/f", "security.capability", capability)
    os.setxattr(bench.context_path / "d/f", "user.note", b"hello")
    os.setxattr(bench.context_path / "d/e", "user.dir", b"1")
    os.setxattr(bench.context_path / "d/e", "user.overlay.opaque", b"y")
    layer = bench.copy("d", "/x", chown="5:6", chmod="755")
    headers = layer["x/f"].pax_headers
    assert headers["SCHILY.xattr.user.note"] == "hello"
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == capability
    assert layer["x/e"].pax_headers == {"SCHILY.xattr.user.dir": "1"}


def test_hard_links_are_kept_within_one_source(bench: Bench) -> None:
    bench.context({"d/a": "same", "d/b": "= d/a", "d/z/c": "= d/a"})
    layer = bench.copy("d", "/x")
    assert layer.content == {"x/a": "same"}
    assert {name: layer[name].linkname for name in ("x/b", "x/z/c")} == {"x/b": "x/a", "x/z/c": "x/a"}


def test_hard_link_whose_first_name_was_replaced_still_has_its_content(bench: Bench) -> None:
    bench.context({"d/a": "old", "d/b": "= d/a", "a": "new"})
    assert bench.copy("d", "a", "/x/").content == {"x/a": "new", "x/b": "old"}


def test_sockets_are_dropped_and_fifos_kept(bench: Bench) -> None:
    bench.context({"d/s": make_socket, "d/p": os.mkfifo, "d/f": "", "s": make_socket})
    layer = bench.copy("d", "s", "/x/")
    assert layer.names() == ["x", "x/f", "x/p"]
    assert layer["x/p"].isfifo()


def test_devices_of_a_stage_are_kept(bench: Bench, privileged: None) -> None:
    stage = make_tree(
        bench.base / "stage", {"d/null": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))}
    )
    null = bench.copy_from(stage, "/d", "/x")["x/null"]
    assert (null.type, null.devmajor, null.devminor) == (tarfile.CHRTYPE, 1, 3)


def test_names_of_any_bytes_and_lengths_survive(bench: Bench) -> None:
    strange = [b"\xff\xfe", "ü".encode(), b"new\nline", b"a" * 200, b" "]
    for name in strange:
        (bench.context_path / "d").mkdir(exist_ok=True)
        with open(os.path.join(os.fsencode(bench.context_path), b"d", name), "wb"):
            pass
    names = {os.fsencode(name) for name in bench.copy("d", "/x") if name != "x"}
    assert names == {b"x/" + name for name in strange}


def test_names_that_layers_reserve_are_refused(bench: Bench) -> None:
    bench.context({"d/.wh.f": "", "d/.when": ""})
    with pytest.raises(CopyError, match=r"/x/\.wh\.f"):
        bench.copy("d", "/x")
    (bench.context_path / "d/.wh.f").unlink()
    assert "x/.when" in bench.copy("d", "/x")


# heredocs


def test_heredocs_become_files(bench: Bench) -> None:
    bench.context({"f": "F"})
    layer = bench.copy("f", "/x/", heredocs=(("a", b"A\n"), ("b", b"B\n")))
    assert layer.content == {"x/f": "F", "x/a": "A\n", "x/b": "B\n"}
    assert (layer["x/a"].mode, layer["x/a"].mtime) == (0o644, CREATED_AT)


@pytest.mark.parametrize("name", ["a", "./a", "/a", "../a", "x/../a", "../../x//../a/."])
def test_heredoc_is_copied_by_the_name_that_it_has_in_an_empty_directory(bench: Bench, name: str) -> None:
    assert bench.copy("/x/y/", heredocs=((name, b"A\n"),)).content == {"x/y/a": "A\n"}


def test_heredoc_to_a_name_with_owner_and_mode(bench: Bench) -> None:
    layer = bench.copy("/z/k", heredocs=(("c", b"C\n"),), chmod="755", chown="4:5")
    assert layer.content == {"z/k": "C\n"}
    assert (layer["z/k"].mode, layer.owner("z/k"), layer.owner("z")) == (0o755, (4, 5), (4, 5))


# --exclude


def test_exclude_leaves_out_what_it_matches_relative_to_the_source(bench: Bench) -> None:
    bench.context({"d/a.txt": "", "d/b.png": "", "d/e/c.txt": "", "d/e/d.png": "", "d/skip/x": ""})
    assert bench.copy("d", "/x", exclude=("*.txt", "skip")).names() == ["x", "x/b.png", "x/e", "x/e/c.txt", "x/e/d.png"]
    assert bench.copy("d", "/x", exclude=("**/*.txt", "**/x")).names() == ["x", "x/b.png", "x/e", "x/e/d.png", "x/skip"]
    assert bench.copy("d", "/x", exclude=("*", "!b.png")).names() == ["x", "x/b.png"]


def test_exclude_everything_leaves_an_empty_directory(bench: Bench) -> None:
    bench.context({"d1/a": "", "d2/b": ""})
    assert bench.copy("d*", "/x", exclude=("*",)).names() == ["x"]


def test_exclude_holds_for_files_named_directly(bench: Bench) -> None:
    bench.context({"home.txt": "", "home.md": "", "home.c": ""})
    assert bench.copy("hom*", "/x/", exclude=("*.txt", "*.md")).names() == ["x", "x/home.c"]


# --parents


def test_parents_keep_the_directories_of_the_source(bench: Bench) -> None:
    bench.context({"a/:700": None, "a/b/:711": None, "a/b/f": "1", "a/b/g": "2", "a/z": "", "q": ""})
    layer = bench.copy("a/b/f", "/x/", parents=True)
    assert layer.names() == ["x", "x/a", "x/a/b", "x/a/b/f"]
    assert (layer["x/a"].mode, layer["x/a/b"].mode) == (0o700, 0o711)
    assert bench.copy("./a/b/*", "/x/", parents=True).names() == ["x", "x/a", "x/a/b", "x/a/b/f", "x/a/b/g"]
    assert bench.copy("a/b/f", "q", "/x/", parents=True).names() == ["x", "x/a", "x/a/b", "x/a/b/f", "x/q"]


STAGE = {
    "test/a/b/c/d/e/bay": "",
    "test/a/b/c/d/foo": "",
    "test/a/b2/c/d/e/bar": "",
    "test/a/b/c2/d/e/baz": "",
    "test/a/b/c2/d/e2/baz": "",
}


@pytest.mark.parametrize(
    ("sources", "files"),
    [
        (["/test/a/b/./c/d"], {"c/d/foo", "c/d/e/bay"}),
        (["/test/a/b/c/d/."], {"test/a/b/c/d/foo", "test/a/b/c/d/e/bay"}),
        (["./test/a/b/c/d"], {"test/a/b/c/d/foo", "test/a/b/c/d/e/bay"}),
        (["/test/a/./b/./c"], {"b/c/d/foo", "b/c/d/e/bay"}),
        (["/test/a/./*/c"], {"b/c/d/foo", "b/c/d/e/bay", "b2/c/d/e/bar"}),
        (["/test/a/b*/./c/**/e"], {"c/d/e/bay", "c/d/e/bar"}),
        (["/test/a/b/c*/./d/**/baz", "/test/a/b*/./c/**/bar"], {"d/e/baz", "d/e2/baz", "c/d/e/bar"}),
    ],
)
def test_parents_with_pivots_and_wildcards(bench: Bench, sources: list[str], files: set[str]) -> None:
    stage = make_tree(bench.base / "stage", STAGE)
    layer = bench.copy_from(stage, *sources, "/out/", parents=True)
    assert set(layer.content) == {f"out/{name}" for name in files}
    directories = {os.path.dirname(f"out/{name}") for name in files}
    assert {name for name in layer if layer[name].isdir()} >= directories


def test_parents_of_a_missing_file_fail_and_of_a_glob_do_not(bench: Bench) -> None:
    bench.context({"a/b": ""})
    with pytest.raises(SourceNotFoundError):
        bench.copy("a/c", "/x/", parents=True)
    assert bench.copy("a/c*", "/x/", parents=True).names() == ["x"]


def test_parents_that_exist_keep_their_owner_and_take_the_mode(bench: Bench) -> None:
    bench.context({"a/:711": None, "a/f": ""})
    bench.rootfs({"x/a/:700": None})
    os.chown(bench.base / "rootfs/x/a", 5, 6)
    layer = bench.copy("a/f", "/x/", parents=True)
    assert (layer["x/a"].mode, layer.owner("x/a")) == (0o711, (5, 6))


# what is not of the context


@pytest.mark.parametrize("source", ["https://example.com/x.tar", "git@example.com:a/b.git", "http://e/x.git#v1"])
def test_copy_takes_no_urls_and_no_git_repositories(bench: Bench, source: str) -> None:
    with pytest.raises(CopyError, match="COPY takes files"):
        bench.copy(source, "/x/")


@pytest.mark.parametrize("source", [".env@v1:old", "-x@host:f", "café@host:f"])
def test_what_add_would_not_fetch_either_is_a_file_that_is_not_there(bench: Bench, source: str) -> None:
    with pytest.raises(SourceNotFoundError, match="COPY"):
        bench.copy(source, "/x/")


def test_file_that_looks_like_a_repository_is_copied(bench: Bench) -> None:
    (bench.context_path / "me@host:notes").touch()
    assert bench.copy("me@host:notes", "/x/").names() == ["x", "x/me@host:notes"]
