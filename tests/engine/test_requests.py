"""What a request is made of, member by member: fields, filters, moments, ports, addresses, mounts, changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import filters, instructions, subnets, times
from engine.callers import Caller
from engine.errors import InvalidRequestError, NoSuchImageError, NotDoneError
from engine.fields import Fields
from engine.mounts import Planned, Planner
from engine.places import Places
from engine.ports import check_port


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidRequestError) as error:
        call(*arguments)
    return error.value.message


BODY = Fields(
    {
        "text": "t", "flag": True, "number": 7, "float": 7.0, "half": 0.5, "null": None, "texts": ["a", "b"],
        "pairs": {"a": "b"}, "keys": {"80/tcp": {}}, "objects": [{"a": 1}, None], "most": (1 << 63) - 1,
        "least": -(1 << 63),
    },
    "body",
)  # fmt: skip


def test_fields_have_their_types() -> None:
    assert (BODY.text("text"), BODY.flag("flag"), BODY.number("number"), BODY.number("float")) == ("t", True, 7, 7)
    assert (BODY.texts("texts"), BODY.texts("text"), BODY.pairs("pairs")) == (["a", "b"], ["t"], {"a": "b"})
    assert BODY.keys("keys") == ["80/tcp"]
    assert [inner.number("a") for inner in BODY.objects("objects")] == [1, 0]
    assert (BODY.number("most"), BODY.number("least")) == ((1 << 63) - 1, -(1 << 63))
    assert BODY.inner("pairs").text("a") == "b"
    assert (BODY.has("text"), BODY.has("null"), BODY.has("nothing")) == (True, False, False)
    assert "null" in BODY.names()
    assert list(BODY) == BODY.names()
    assert (BODY.raw("text"), BODY.raw("nothing")) == ("t", None)


def test_absent_and_null_are_empty() -> None:
    for name in ("nothing", "null"):
        assert (BODY.text(name), BODY.flag(name), BODY.number(name)) == ("", False, 0)
        assert (BODY.texts(name), BODY.pairs(name), BODY.keys(name), BODY.objects(name)) == ([], {}, [], [])
        assert BODY.inner(name).names() == []


@pytest.mark.parametrize(
    ("how", "name", "message"),
    [
        ("text", "number", "body.number is a number, expected a text"),
        ("flag", "text", "body.text is a text, expected true or false"),
        ("flag", "number", "body.number is a number, expected true or false"),
        ("number", "flag", "body.flag is true or false, expected a whole number"),
        ("number", "half", "body.half is a number, expected a whole number"),
        ("texts", "pairs", "body.pairs is an object, expected a list of texts"),
        ("texts", "objects", "body.objects is a list, expected a list of texts"),
        ("pairs", "keys", "body.keys is an object, expected an object of texts"),
        ("pairs", "texts", "body.texts is a list, expected an object of texts"),
        ("keys", "texts", "body.texts is a list, expected an object"),
        ("objects", "keys", "body.keys is an object, expected a list"),
        ("objects", "texts", "body.texts[0] is a text, expected an object"),
        ("inner", "text", "body.text is a text, expected an object"),
    ],
)
def test_field_of_another_type_is_named(how: str, name: str, message: str) -> None:
    assert refused(getattr(BODY, how), name) == message


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_number_that_no_client_of_docker_can_have_is_refused(number: int) -> None:
    assert refused(Fields({"n": number}, "body").number, "n") == "body.n is too large"


def test_filters_as_lists_and_as_objects() -> None:
    known = ("a", "b")
    assert filters.checked(None, known) == {}
    assert filters.checked({"a": ["x", "y"], "b": {"z": True, "w": False}}, known) == {"a": ["x", "y"], "b": ["z"]}
    assert refused(filters.checked, ["a"], known) == "invalid filters: expected an object of lists"
    assert refused(filters.checked, {"c": []}, known) == "invalid filter 'c'"
    assert refused(filters.checked, {"a": "x"}, known) == "invalid filter 'a': expected a list of texts"
    assert refused(filters.checked, {"a": [1]}, known) == "invalid filter 'a': expected a list of texts"


def test_filters_of_labels_all_hold() -> None:
    labels = {"a": "1", "b": ""}
    for wanted in ([], ["a"], ["a=1"], ["b="], ["a", "b"]):
        assert filters.labels_match(wanted, labels), wanted
    for wanted in (["c"], ["a=2"], ["a="], ["a", "c"], ["a=1", "b=x"]):
        assert not filters.labels_match(wanted, labels), wanted


def test_filters_of_texts_are_texts_or_expressions() -> None:
    for wanted in ([], ["web"], ["^w"], ["x", "b$"], ["[", "web"], ["e"]):
        assert filters.text_matches(wanted, "web"), wanted
    for wanted in (["x"], ["["], ["^e"]):
        assert not filters.text_matches(wanted, "web"), wanted
    assert filters.text_matches(["a[b"], "a[b")  # the text itself, though it is no expression


def test_filters_of_numbers() -> None:
    assert filters.number("exited", "3") == 3
    assert 'parsing "x": invalid syntax' in refused(filters.number, "exited", "x")


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1ns", 1e-9), ("1us", 1e-6), ("1µs", 1e-6), ("1ms", 1e-3), ("1s", 1), ("1m", 60), ("1h", 3600), ("1.5h", 5400),
        ("1h2m3s", 3723),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert times.duration_ns(text) == round(seconds * SECOND)


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s2", "-1s", "1 s"])
def test_what_is_no_duration(text: str) -> None:
    assert times.duration_ns(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (0.99, "Less than a second"), (1, "1 second"), (2, "2 seconds"), (59, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"), (120, "2 minutes"), (3599, "59 minutes"),
        (3600, "About an hour"), (5399, "About an hour"), (5400, "2 hours"), (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"), (14 * 86400 - 3600, "13 days"), (14 * 86400, "2 weeks"), (60 * 86400 - 3600, "8 weeks"),
        (60 * 86400, "2 months"), (730 * 86400 - 3600, "24 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_how_long_ago_in_dockers_words(seconds: float, text: str) -> None:
    assert times.ago(seconds) == text


def test_moments_there_and_back() -> None:
    for text in ("2026-11-28T10:27:02Z", "2026-11-28T10:27:02.1Z", "2026-11-28T10:27:02.000000001Z", times.NEVER):
        assert times.text_of(times.moment_of(text)) == text
    assert times.moment_of("") == 0
    assert times.moment_of("1970-01-01T00:00:01Z") == SECOND
    assert times.moment_of("1970-01-01T01:00:00+01:00") == 0
    assert times.moment_of("1970-01-02Z") == 86400 * SECOND
    assert times.moment_of("1970-01-01T00:01Z") == 60 * SECOND
    for text in ("yesterday", "2026-13-01Z", "2026-11-28T25:00:00Z", "2026-11-28T10:27:02.1234567890Z"):
        assert refused(times.moment_of, text) == f"invalid time: {text!r}"


def test_what_since_and_until_mean() -> None:
    now = 1000 * SECOND
    assert times.asked_moment("", now_ns=now) == 0
    assert times.asked_moment("0", now_ns=now) == 0
    assert times.asked_moment("17", now_ns=now) == 17 * SECOND
    assert times.asked_moment("17.5", now_ns=now) == 17 * SECOND + SECOND // 2
    assert times.asked_moment("10m", now_ns=now) == 400 * SECOND
    assert times.asked_moment("1970-01-01T00:00:01Z", now_ns=now) == SECOND


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", (80, 80, "tcp")), ("53/udp", (53, 53, "udp")), ("1-65535/sctp", (1, 65535, "sctp")),
        ("80-80/tcp", (80, 80, "tcp")),
    ],
)  # fmt: skip
def test_ports(text: str, port: tuple[int, int, str]) -> None:
    assert check_port(text) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "81-80", "1-65536", "0-1", "80/icmp", "80/TCP", "٨٠", "-1"])
def test_what_is_no_port(text: str) -> None:
    assert refused(check_port, text) == f"invalid port: {text!r}"


def test_addresses_of_a_network() -> None:
    assert subnets.free_address("10.0.0.0/29", ["10.0.0.1"]) == "10.0.0.2"
    assert subnets.free_address("10.0.0.0/29", []) == "10.0.0.1"
    every = [f"10.0.0.{number}" for number in range(1, 7)]
    assert "no available IPv4 addresses" in refused(subnets.free_address, "10.0.0.0/29", every)
    assert subnets.free_address("10.0.0.0/29", every[:-1]) == "10.0.0.6"
    assert str(subnets.parsed("10.0.0.0/29")) == "10.0.0.0/29"
    assert "no room for containers" in refused(subnets.parsed, "10.0.0.0/30")
    assert "invalid CIDR address" in refused(subnets.parsed, "10.0.0.1/29")
    subnets.checked_address("10.0.0.1", "10.0.0.0/29")
    assert "no configured subnet" in refused(subnets.checked_address, "10.0.0.8", "10.0.0.0/29")
    assert "invalid IPv4 address" in refused(subnets.checked_address, "::1", "10.0.0.0/29")


def test_networks_do_not_overlap() -> None:
    subnet = subnets.parsed("10.0.0.0/24")
    subnets.refuse_overlap(subnet, ["10.0.1.0/24"])
    for other in ("10.0.0.0/24", "10.0.0.0/16", "10.0.0.128/25"):
        assert "Pool overlaps" in refused(subnets.refuse_overlap, subnet, [other])


def test_free_subnets_are_dockers_pools_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subnets, "_routed", lambda: iter(()))
    assert str(subnets.free([])) == "172.17.0.0/16"
    assert str(subnets.free(["172.17.0.0/16"])) == "172.18.0.0/16"
    twelve = [f"172.{number}.0.0/16" for number in range(17, 32)]
    assert str(subnets.free(twelve)) == "192.168.0.0/20"
    assert str(subnets.free([*twelve, "192.168.0.0/24"])) == "192.168.16.0/20"
    assert "could not find an available" in refused(subnets.free, ["0.0.0.0/0"])
    monkeypatch.setattr(subnets, "_routed", lambda: iter([subnets.parsed("172.17.5.0/24")]))
    assert str(subnets.free([])) == "172.18.0.0/16"


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    def image_of(name: str) -> tuple[str, list[str]]:
        raise NoSuchImageError(f"No such image: {name}")

    others = [
        {"Type": "volume", "Name": "data", "Source": "/x", "Destination": "/data", "RW": True, "Mode": "z"},
        {"Type": "bind", "Source": "/etc", "Destination": "/conf", "RW": False, "Mode": "ro"},
        {"Type": "tmpfs", "Source": "", "Destination": "/tmp", "RW": True, "Mode": ""},
    ]
    places = Places(tmp_path, tmp_path / "run")
    made = [{}, {"flat": True}, {}]
    return Planner(places, Caller.own(), lambda _ref: [*zip(others, made, strict=True)], lambda _name: None, image_of)


def planned(planner: Planner, volumes: tuple[str, ...] = (), **host: Any) -> Planned:
    return planner.plan(Fields(host, "body.HostConfig"), volumes)


def test_binds_are_volumes_and_paths(planner: Planner, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    found = planned(planner, Binds=["data:/d", "logs:/l:ro,nocopy", f"{tmp_path}/dir:/p:ro", f"{tmp_path}/new:/n"])
    assert [(mount["target"], mount["readonly"]) for mount in found.mounts] == [
        ("/d", False), ("/l", True), ("/n", False), ("/p", True),
    ]  # fmt: skip
    assert found.fresh == [("data", "/d")]
    assert [volume.name for volume in found.volumes] == ["data", "logs"]
    assert not any(volume.is_anonymous for volume in found.volumes)
    assert (tmp_path / "new").is_dir()  # as docker makes it
    shown = {mount["Destination"]: mount for mount in found.shown}
    assert (shown["/d"]["Mode"], shown["/l"]["Mode"], shown["/l"]["RW"]) == ("z", "ro,nocopy", False)
    assert (shown["/p"]["Type"], shown["/p"]["Propagation"], shown["/d"]["Propagation"]) == ("bind", "rprivate", "")


def test_job_s_engine_shows_what_is_mounted_in_the_job_as_it_is_there(tmp_path: Path) -> None:
    """In the job's /proc something hides what a container is not to see."""
    job = Caller.of_job(str(tmp_path), "")
    planner = Planner(Places(tmp_path, tmp_path / "run"), job, lambda _: [], lambda _: None, lambda name: (name, []))
    (tmp_path / "proc").mkdir()
    bind = {"Type": "bind", "Source": "/proc", "Target": "/x"}
    with pytest.raises(NotDoneError, match="bind-recursive=disabled is refused"):
        planned(planner, Mounts=[{**bind, "BindOptions": {"NonRecursive": True}}])
    (mount,) = planned(planner, Mounts=[bind]).mounts
    assert (mount["source"], mount["within"]) == (str(tmp_path), "/proc")
    assert "flat" not in mount


def test_outer_mounts_come_before_those_in_them(planner: Planner) -> None:
    found = planned(planner, Binds=["aa:/z/y/x", "bb:/z/y", "cc:/b", "dd:/a/../z"])
    assert [mount["target"] for mount in found.mounts] == ["/b", "/z", "/z/y", "/z/y/x"]


def test_volumes_of_the_image_are_anonymous_where_nothing_else_is(planner: Planner) -> None:
    found = planned(planner, ("/d", "/e/"), Binds=["data:/d"])
    assert [mount["target"] for mount in found.mounts] == ["/d", "/e"]
    assert [volume.is_anonymous for volume in found.volumes] == [False, True]
    assert [place for _, place in found.fresh] == ["/d", "/e"]


def test_mounts_of_another_container(planner: Planner) -> None:
    found = planned(planner, VolumesFrom=["other"])
    assert [(mount["target"], mount["readonly"]) for mount in found.mounts] == [("/conf", True), ("/data", False)]
    assert found.fresh == []
    assert found.mounts[0]["flat"]
    assert [volume.name for volume in found.volumes] == ["data"]


@pytest.mark.parametrize(("mode", "readonly"), [("ro", [True, True]), ("rw", [True, False]), ("z", [True, False])])
def test_mounts_of_another_container_may_be_read_only(planner: Planner, mode: str, readonly: list[bool]) -> None:
    assert [mount["readonly"] for mount in planned(planner, VolumesFrom=[f"other:{mode}"]).mounts] == readonly


def test_mounts_of_another_container_leave_what_is_there(planner: Planner) -> None:
    found = planned(planner, Binds=["mine:/data"], VolumesFrom=["other"])
    assert [volume.name for volume in found.volumes] == ["mine"]
    assert "invalid mode for volumes-from: x" in refused(lambda: planned(planner, VolumesFrom=["other:x"]))


@pytest.mark.parametrize(
    ("options", "size", "mode"),
    [("", 0, 0o1777), ("size=1k,mode=700", 1024, 0o700), ("rw,noexec,nosuid,size=5", 5, 0o1777)],
)
def test_memory_as_a_file_system(planner: Planner, options: str, size: int, mode: int) -> None:
    [mount] = planned(planner, Tmpfs={"/t": options}).mounts
    assert mount == {"kind": "tmpfs", "target": "/t", "size_bytes": size, "mode": mode, "flags": 14}


def test_mounts_as_objects(planner: Planner, tmp_path: Path) -> None:
    found = planned(
        planner,
        Mounts=[
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 9, "Mode": 0o755}},
            {"Type": "bind", "Source": str(tmp_path), "Target": "/b", "ReadOnly": True},
            {"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {"NoCopy": True}},
            {"Type": "volume", "Target": "/v", "VolumeOptions": {"Labels": {"a": "b"}}},
            {
                "Type": "bind", "Source": f"{tmp_path}/made", "Target": "/m",
                "BindOptions": {"CreateMountpoint": True, "Propagation": "rslave"},
            },
        ],
    )  # fmt: skip
    mounts = {mount["target"]: mount for mount in found.mounts}
    assert (mounts["/t"]["size_bytes"], mounts["/t"]["mode"]) == (9, 0o755)
    assert (mounts["/b"]["readonly"], mounts["/d"]["readonly"]) == (True, False)
    assert (tmp_path / "made").is_dir()
    data, made = found.volumes
    assert (data.name, data.is_anonymous, made.is_anonymous, made.labels) == ("data", False, True, {"a": "b"})
    assert [place for _, place in found.fresh] == ["/v"]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"Type": "bind", "Source": "a", "Target": "/a"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/a", "Target": "a"}, "invalid mount path: 'a' mount path must be absolute"),
        ({"Type": "npipe", "Target": "/a"}, "mount type unknown: 'npipe'"),
        ({"Type": "image", "Target": "/a"}, "field Source must not be empty"),
        ({"Type": "bind", "Source": "/tmp", "Target": "/a", "BindOptions": {"Propagation": "shared"}}, "'shared'"),
        ({"Type": "volume", "Target": "/a", "VolumeOptions": {"Subpath": "x"}}, "must not set Subpath"),
        (
            {"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}},
            "the volume driver 'nfs' is not there",
        ),
        (
            {"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": {"Options": {"o": "x"}}}},
            "is refused: o=bind is done",
        ),
        ({"Type": "tmpfs", "Target": "/a/.."}, "destination can't be '/'"),
        ({"Type": "tmpfs", "Target": "/a\0"}, "mount path must be absolute"),
    ],
)
def test_mounts_that_cannot_be(planner: Planner, mount: dict[str, Any], message: str) -> None:
    assert message in refused(lambda: planned(planner, Mounts=[mount]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=x", "invalid tmpfs option 'size=x'"),
        ("mode=9", "invalid tmpfs option 'mode=9'"),
        ("uid=x", "invalid tmpfs option 'uid=x'"),
    ],
)
def test_options_of_a_tmpfs_that_cannot_be(planner: Planner, options: str, message: str) -> None:
    assert message in refused(lambda: planned(planner, Tmpfs={"/t": options}))


def test_one_place_has_one_mount(planner: Planner) -> None:
    assert "Duplicate mount point: /a" in refused(lambda: planned(planner, Binds=["aa:/a"], Tmpfs={"/a/": ""}))


@pytest.mark.parametrize(
    ("bind", "kind"),
    [("aa:/a:rshared", NotDoneError), ("aa", InvalidRequestError), (":/a", InvalidRequestError),
     ("aa:", InvalidRequestError), ("aa:/a:ro:x", InvalidRequestError), ("aa:/a:x", InvalidRequestError)],
)  # fmt: skip
def test_binds_that_cannot_be(planner: Planner, bind: str, kind: type[Exception]) -> None:
    with pytest.raises(InvalidRequestError) as error:
        planned(planner, Binds=[bind])
    assert type(error.value) is kind


CONFIG = {"Env": ["A=1", "B=2"], "Labels": {"a": "b"}, "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}}}


@pytest.mark.parametrize(
    ("change", "member", "value"),
    [
        ("CMD run it", "Cmd", ["/bin/sh", "-c", "run it"]),
        ('CMD ["run", "it"]', "Cmd", ["run", "it"]),
        ('ENTRYPOINT ["e"]', "Entrypoint", ["e"]),
        ("ENV B=$A C=3", "Env", ["A=1", "B=1", "C=3"]),
        ("LABEL x=$A", "Labels", {"a": "b", "x": "1"}),
        ("EXPOSE 90-91 53/udp", "ExposedPorts", {"80/tcp": {}, "90/tcp": {}, "91/tcp": {}, "53/udp": {}}),
        ("VOLUME /d$A", "Volumes", {"/d1": {}}),
        ("USER u$B", "User", "u2"),
        ("WORKDIR sub", "WorkingDir", "/srv/sub"),
        ("WORKDIR /abs", "WorkingDir", "/abs"),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
        ('SHELL ["ash", "-c"]', "Shell", ["ash", "-c"]),
        ("ONBUILD RUN make", "OnBuild", ["RUN make"]),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK --interval=1s CMD true", "Healthcheck", {"Test": ["CMD-SHELL", "true"], "Interval": SECOND}),
        (
            'HEALTHCHECK --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD ["t"]',
            "Healthcheck",
            {
                "Test": ["CMD", "t"], "Timeout": 2 * SECOND, "StartPeriod": 3 * SECOND, "StartInterval": 4 * SECOND,
                "Retries": 5,
            },
        ),
    ],
)  # fmt: skip
def test_changes_of_a_commit(change: str, member: str, value: object) -> None:
    found = instructions.changed(CONFIG, [change])
    assert found[member] == value
    assert {name: found[name] for name in CONFIG if name != member} == {
        name: CONFIG[name] for name in CONFIG if name != member
    }


def test_changes_of_a_commit_build_on_each_other() -> None:
    found = instructions.changed({}, ['SHELL ["ash", "-c"]', "CMD run", "ENV A=1", "ENV B=$A", "WORKDIR x"])
    assert (found["Cmd"], found["Env"], found["WorkingDir"]) == (["ash", "-c", "run"], ["A=1", "B=1"], "/x")


def test_changes_that_are_none() -> None:
    assert "RUN is not a valid change command" in refused(instructions.changed, {}, ["RUN make"])
    assert refused(instructions.changed, {}, ["PUMPKIN x"])
