"""A container's Config: the body over the image, as docker merges them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from engine.config import Config, read, signal_number
from engine.errors import InvalidRequestError
from engine.fields import Fields
from images.oci import ContainerConfig

ID = "0123456789abcdef"


def of(image: ContainerConfig | None = None, **body: Any) -> Config:
    return read(Fields({"Cmd": ["run"], **body}, "body"), image, ID)


def refusal(**body: Any) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        of(**body)
    return refused.value.message


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15), ("term", 15), ("15", 15), ("sigkill", 9), ("1", 1), (str(int(signal.SIGRTMAX)), 64),
        ("RTMIN", int(signal.SIGRTMIN)), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMAX-2", signal.SIGRTMAX - 2),
        ("RTMAX", int(signal.SIGRTMAX)), ("RTMIN+0", int(signal.SIGRTMIN)),
        (f"RTMIN+{signal.SIGRTMAX - signal.SIGRTMIN}", int(signal.SIGRTMAX)),
        (f"RTMAX-{signal.SIGRTMAX - signal.SIGRTMIN}", int(signal.SIGRTMIN)),
    ],
)  # fmt: skip
def test_signals_by_name_and_number(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-1", "NOPE", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+31", "RTMAX-31", "RTMIN+x", "١٥", "SIG"],
)
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        signal_number(text)
    assert refused.value.message == f"invalid signal: {text}"


def test_nothing_but_a_command() -> None:
    found = of()
    assert (found.args, found.hostname, found.stop_signal, found.stop_timeout_s) == (("run",), ID[:12], 15, 10)
    assert (found.env, found.health, found.volumes) == ((("HOSTNAME", ID[:12]),), None, ())
    document = found.document
    for name in ("ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "Shell"):
        assert name not in document
    for name in ("Env", "Volumes", "Entrypoint", "OnBuild"):
        assert document[name] is None
    for name in ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"):
        assert document[name] is False


def test_flags_and_texts_reach_the_document() -> None:
    flags = ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce")
    for name in flags:
        document = read(Fields({"Cmd": ["run"], name: True}, "body"), None, ID).document
        assert [flag for flag in flags if document[flag]] == [name]
    document = of(Domainname="d", User="u", WorkingDir="/w", Shell=["sh"], StopTimeout=0, StopSignal="INT").document
    assert [document[name] for name in ("Domainname", "User", "WorkingDir", "Shell", "StopTimeout", "StopSignal")] == [
        "d", "u", "/w", ["sh"], 0, "INT",
    ]  # fmt: skip
    assert of(StopTimeout=0).stop_timeout_s == 0
    assert of(StopSignal="INT").stop_signal == 2


def test_image_says_what_was_not_asked_for() -> None:
    image = ContainerConfig(
        user="7", working_dir="/src", stop_signal="SIGQUIT", shell=("ash",), env=("A=1", "B=2"),
        labels={"a": "image", "b": "image"}, exposed_ports={"80/tcp": {}}, volumes={"/data": {}},
    )  # fmt: skip
    found = of(image, Env=["B=3"], Labels={"a": "own"}, ExposedPorts={"53/udp": {}}, Volumes={"/a": {}})
    document = found.document
    assert (document["User"], document["WorkingDir"], found.stop_signal) == ("7", "/src", signal.SIGQUIT)
    assert document["Shell"] == ["ash"]
    assert document["Env"] == ["B=3", "A=1"]
    assert document["Labels"] == {"a": "own", "b": "image"}
    assert list(document["ExposedPorts"]) == ["53/udp", "80/tcp"]
    assert list(document["Volumes"]) == ["/a", "/data"]
    assert found.volumes == ("/a", "/data")
    own = of(image, User="8", WorkingDir="/w", StopSignal="HUP", Shell=["sh"]).document
    assert [own[name] for name in ("User", "WorkingDir", "StopSignal", "Shell")] == ["8", "/w", "HUP", ["sh"]]


def test_commands_environment() -> None:
    assert of(Tty=True, Env=["A=b=c", "TERM", "E="]).env == (("HOSTNAME", ID[:12]), ("A", "b=c"), ("E", ""))
    assert of(Tty=True).env == (("HOSTNAME", ID[:12]), ("TERM", "xterm"))
    assert of(Env=["HOSTNAME=me"], Hostname="h").env == (("HOSTNAME", "me"),)
    assert refusal(Env=["=x"]) == "invalid environment variable: =x"
    assert refusal(Env=[""]) == "invalid environment variable: "


def test_host_names() -> None:
    for name in ("a", "a" * 63, "a.b-c_d"):
        assert of(Hostname=name).hostname == name
    for name in ("a" * 64, "-a", "a-", "a b", "ä"):
        assert refusal(Hostname=name) == f"invalid hostname format: {name}"


def test_working_directory_is_absolute() -> None:
    assert refusal(WorkingDir="src") == "the working directory 'src' is invalid, it needs to be an absolute path"


def test_nothing_has_a_nul() -> None:
    assert refusal(Cmd=["a\0"]) == "the command has a NUL in it"
    assert refusal(Entrypoint=["a\0"]) == "the command has a NUL in it"
    assert refusal(Labels={"a\0": ""}) == "a label or variable has a NUL in it"
    assert refusal(Env=["a\0=b"]) == "a label or variable has a NUL in it"


def test_no_command_at_all() -> None:
    assert refusal(Cmd=[]) == "no command specified"


SECOND = 1_000_000_000


def test_health_check_has_dockers_defaults() -> None:
    check = of(Healthcheck={"Test": ["CMD-SHELL", "true"]})
    assert check.health == {
        "test": ["CMD-SHELL", "true"], "interval_s": 30.0, "timeout_s": 30.0, "start_period_s": 0.0,
        "start_interval_s": 5.0, "retries": 3,
    }  # fmt: skip
    assert check.document["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}


def test_health_check_as_asked() -> None:
    asked = {
        "Test": ["CMD", "a"], "Interval": SECOND, "Timeout": 2 * SECOND, "StartPeriod": 3 * SECOND,
        "StartInterval": 1_000_000, "Retries": 1,
    }  # fmt: skip
    found = of(Healthcheck=asked)
    assert found.document["Healthcheck"] == asked
    assert found.health == {
        "test": ["CMD", "a"], "interval_s": 1.0, "timeout_s": 2.0, "start_period_s": 3.0, "start_interval_s": 0.001,
        "retries": 1,
    }  # fmt: skip


@pytest.mark.parametrize("test", [[], ["NONE"]])
def test_health_check_that_is_none(test: list[str]) -> None:
    assert of(Healthcheck={"Test": test}).health is None


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"Test": ["CMD", "a"], "Interval": 999_999}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Test": ["CMD", "a"], "Retries": -1}, "Retries in Healthcheck cannot be negative"),
        ({"Test": ["CMD"]}, "Unknown healthcheck type 'CMD' (expected 'CMD' or 'CMD-SHELL')"),
        ({"Test": ["SHELL", "x"]}, "Unknown healthcheck type 'SHELL' (expected 'CMD' or 'CMD-SHELL')"),
    ],
)
def test_health_check_that_cannot_be(check: dict[str, Any], message: str) -> None:
    assert refusal(Healthcheck=check) == message
