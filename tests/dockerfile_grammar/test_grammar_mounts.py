"""RUN --mount and --device."""

from __future__ import annotations

import pytest

from dockerfile_grammar import ast, expand, parse
from dockerfile_grammar.errors import MountError
from dockerfile_grammar.mounts import Device, Mount, parse_device, parse_mount

ENV = {"dir": "/cache", "kind": "cache", "yes": "true"}


def mount(value: str) -> Mount:
    dockerfile = parse(f"FROM debian\nRUN --mount={value} make\n")
    run = dockerfile.stages[0].instructions[0]
    assert isinstance(run, ast.Run)
    return parse_mount(run.mounts[0], dockerfile.source, lambda text: expand(text, ENV))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("target=/x", Mount("bind", target="/x", readonly=True)),
        ("type=bind,dst=/x,src=y,from=z,rw", Mount("bind", from_="z", source="y", target="/x", readonly=False)),
        ("type=bind,destination=/x,readonly=false", Mount("bind", target="/x", readonly=False)),
        ("TYPE=Bind,Target=/x,RO", Mount("bind", target="/x", readonly=True)),
        ("type=cache,target=$dir", Mount("cache", target="/cache")),
        ("type=$kind,target=/x,ro=$yes", Mount("cache", target="/x", readonly=True)),
        (
            "type=cache,id=a,target=/x,sharing=locked,mode=0700,uid=1,gid=2,from=base,source=/s",
            Mount("cache", from_="base", source="/s", target="/x", id="a", sharing="locked", mode=0o700, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/x,size=64m", Mount("tmpfs", target="/x", size_bytes=64 * 2**20)),
        ("type=tmpfs,target=/x,size=1.5KiB", Mount("tmpfs", target="/x", size_bytes=1536)),
        ("type=secret,id=a,required", Mount("secret", id="a", required=True, readonly=True)),
        ("type=secret,id=a,env=TOKEN,required=0", Mount("secret", id="a", env="TOKEN", readonly=True)),
        ("type=secret,target=/run/x,mode=0400", Mount("secret", target="/run/x", mode=0o400, readonly=True)),
        ("type=ssh", Mount("ssh", readonly=True)),
        ("type=ssh,id=x,uid=5,required=true", Mount("ssh", id="x", uid=5, required=True, readonly=True)),
        ("'type=bind,\"target=/a,b\"'", Mount("bind", target="/a,b", readonly=True)),
        ('\'type=bind,"target=/a"",b"""\'', Mount("bind", target="/a,b", readonly=True)),
        ("type=bind,target=/a=b", Mount("bind", target="/a=b", readonly=True)),
        ("type=bind,target=", Mount("bind", readonly=True)),
    ],
)
def test_mount(value: str, expected: Mount) -> None:
    assert mount(value) == expected


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("type=bnd,target=/x", "unsupported mount type 'bnd'", "did you mean bind?"),
        ("type=volume,target=/x", "unsupported mount type 'volume'", "it can be bind, cache, tmpfs, secret, ssh"),
        ("type=cache,tarjet=/x", "unexpected key 'tarjet'", "did you mean target?"),
        ("type=cache,target", "must be a key=value pair", "write target=…"),
        ("type=cache,reqired", "must be a key=value pair", "did you mean required?"),
        ("type=cache,", "must be a key=value pair", ""),
        ("type=cache,target=/x,required", "unexpected key 'required' for mount type 'cache'", "type=secret"),
        ("type=cache,target=/x,size=1m", "unexpected key 'size' for mount type 'cache'", "type=tmpfs"),
        ("type=tmpfs,target=/x,size=big", "invalid value for size: 'big'", "64k"),
        ("target=/x,ro=maybe", "invalid value for ro: 'maybe'", "true or false"),
        ("type=cache,target=/x,sharing=lock", "unsupported sharing 'lock'", "did you mean locked?"),
        ("type=cache,target=/x,mode=0999", "invalid value for mode: '0999'", "octal"),
        ("type=cache,target=/x,uid=root", "invalid value for uid: 'root'", "a number"),
        ("type=cache,target=/x,gid=-1", "invalid value for gid: '-1'", "a number"),
        ("type=bind,target=/x,mode=0755", "mode is not allowed for mount type 'bind'", ""),
        ("type=tmpfs,target=/x,uid=1", "uid is not allowed for mount type 'tmpfs'", ""),
        ("type=bind,target=/x,sharing=shared", "sharing is not allowed for mount type 'bind'", ""),
        ("type=secret", "a secret mount needs an id", "type=secret,id=NAME"),
        ("type=secret,id=a,from=b", "a secret mount has no from", ""),
        ("type=secret,id=a,source=b", "a secret mount has id or source, not both", ""),
    ],
)
def test_bad_mount(value: str, message: str, hint: str) -> None:
    with pytest.raises(MountError) as caught:
        mount(value)
    assert message in caught.value.message
    assert caught.value.message.startswith("Dockerfile:2:")
    assert hint in (caught.value.hint or "")


def test_error_points_at_the_field() -> None:
    with pytest.raises(MountError) as caught:
        mount("type=cache,tarjet=/x")
    assert caught.value.render().splitlines()[2] == "      | " + " " * 23 + "^" * 9


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("vendor/class=name", Device("vendor/class=name", False)),
        ("name=x,required", Device("x", True)),
        ("x,required=false", Device("x", False)),
        ("required=true,x", Device("x", True)),
    ],
)
def test_device(value: str, expected: Device) -> None:
    dockerfile = parse(f"FROM debian\nRUN --device={value} make\n")
    run = dockerfile.stages[0].instructions[0]
    assert isinstance(run, ast.Run)
    assert parse_device(run.devices[0], dockerfile.source) == expected


def test_bad_device() -> None:
    with pytest.raises(MountError, match="unexpected field 'nam=y'"):
        parse("FROM debian\nRUN --device=x,nam=y make\n")
