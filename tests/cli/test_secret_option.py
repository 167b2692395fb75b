"""``shiplap build --secret``: where a secret comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.building.secrets import read_named_secrets, read_secrets, split_secrets
from cli.errors import CommandError
from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


def test_secret_from_a_file_is_taken_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "key,1"
    file.write_bytes(b"\xff\n")
    assert read_secrets([f'id=a,"src={file}"', f'id=b,type=file,"source={file}"'], {}) == {
        "a": b"\xff\n",
        "b": b"\xff\n",
    }


def test_secret_from_a_variable() -> None:
    environ = {"TOKEN": "t", "b": "named"}
    assert read_secrets(["id=a,env=TOKEN"], environ) == {"a": b"t"}
    assert read_secrets(["id=a,type=env,src=TOKEN"], environ) == {"a": b"t"}
    assert read_secrets(["id=b"], environ) == {"b": b"named"}
    assert read_secrets(["id=b,type=env"], environ) == {"b": b"named"}


def test_id_names_a_file_where_there_is_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("k")
    assert read_secrets(["id=key"], {}) == {"key": b"k"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src=/etc/passwd", "has no id"),
        ("key", "unknown field 'key'"),
        ("id=a,mode=0400", "unknown field 'mode=0400'"),
        ("id=a,type=vault", "has the type 'vault'"),
        ("id=a,src=x,env=Y", "has src and env"),
        ("id=a,type=file,env=Y", "is of type file and has env"),
        ("id=a,env=UNSET", r"\$UNSET is not set"),
        ("id=a,src=/none", "cannot read /none: No such file"),
        ("", "has no id"),
    ],
)
def test_values_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as raised:
        read_secrets([text], {})
    assert raised.value.hint


def test_secret_that_the_service_stores_is_named_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"here")
    given = split_secrets(["id=a,type=stored", f"id=b,src={file}", "id=b,type=stored", "id=c,type=stored"], {})
    assert (given.values, given.stored) == ({"b": b"here"}, ("a", "c")), "what is given here is not stored there"
    for text in ("id=a,type=stored,src=x", "id=a,type=stored,env=X", "type=stored"):
        with pytest.raises(CommandError, match="has src or env, and is stored by the service") as refused:
            split_secrets([text], {})
        assert refused.value.hint == "write id=ID,type=stored"
    with pytest.raises(CommandError, match="id=a,type=stored: secrets are stored by a build service") as here:
        read_secrets(["id=a,type=stored"], {})
    assert here.value.hint == "shiplap --host URL build …"


def test_secret_of_type_env_is_a_variable_whatever_names_it() -> None:
    assert read_secrets(["id=a,type=env,env=TOKEN"], {"TOKEN": "t", "a": "x"}) == {"a": b"t"}
    assert read_secrets(["id=a,env=TOKEN"], {"TOKEN": "\udcff"}) == {"a": b"\xff"}


def test_file_of_the_home_directory_may_be_named_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_bytes(b"k")
    assert read_secrets(["id=a,src=~/key"], {}) == {"a": b"k"}


def test_secret_that_is_too_big_is_refused(tmp_path: Path) -> None:
    most = tmp_path / "most"
    most.write_bytes(bytes(500 << 10))
    assert len(read_secrets([f"id=a,src={most}"], {})["a"]) == 500 << 10
    file = tmp_path / "big"
    file.write_bytes(bytes((500 << 10) + 1))
    with pytest.raises(CommandError, match="more than 500 KiB"):
        read_secrets([f"id=a,src={file}"], {})


def test_secret_reaches_the_step_and_not_the_log(base_store: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cr3t-of-the-test")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\n"
        "RUN --mount=type=secret,id=key,required wc -c < /run/secrets/key; cat /run/secrets/key; "
        f"echo; echo {tmp_path.name}\n"
    )
    build = ("build", "--progress", "plain", tmp_path)
    said = base_store(*build, "--secret", f"id=key,src={tmp_path / 'key'}").stderr
    assert " 18\n" in said
    assert " ***\n" in said
    assert "s3cr3t" not in said


def test_missing_secret_is_told_with_its_place(base_store: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN --mount=type=secret,id=key,required echo {tmp_path.name}\n"
    )
    failed = base_store("build", tmp_path, check=False)
    assert failed.returncode == 1
    assert "Dockerfile:2:1: RUN --mount: secret 'key' is required, and was not given" in failed.stderr
    assert "hint: build with --secret id=key,src=FILE" in failed.stderr


def test_locked_cache_holds_between_two_builds(base_store: Shiplap, tmp_path: Path) -> None:
    """Two processes: a directory that only one of them may make at a time is the witness."""
    builds = []
    for name in ("a", "b"):
        context = tmp_path / name
        context.mkdir()
        (context / "Dockerfile").write_text(
            f"FROM {BUSYBOX_NAME}\nRUN --mount=type=cache,id={tmp_path},target=/c,sharing=locked "
            f"mkdir /c/alone && sleep 0.5 && rmdir /c/alone && echo {name} >> /c/done\n"
        )
        builds.append(base_store.start("build", context))
    assert [build.wait(stretched(120)) for build in builds] == [0, 0]


def test_secret_of_a_job_is_a_file_or_the_variable_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "key=1"
    file.write_bytes(b"\xff123\n")
    assert read_named_secrets([f"A={file}", "B", "B"], {"B": "long"}) == {"A": b"\xff123\n", "B": b"long"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("=x", "has no name", "write --secret NAME=FILE, or NAME"),
        ("A=", "names no file", "write --secret NAME=FILE, or NAME"),
        ("", "has no name", "write --secret NAME=FILE, or NAME"),
        ("UNSET", r"\$UNSET is not set", "export UNSET=…, or give a file: UNSET=FILE"),
        ("A=/none", "cannot read /none: No such file", "A=FILE names a file that you may read"),
        ("SHORT", "its value is too short", "secrets are masked in what is printed, and so have at least 4 bytes"),
    ],
)
def test_secrets_of_jobs_that_cannot_be_are_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(CommandError, match=message) as raised:
        read_named_secrets([text], {"SHORT": "abc"})
    assert raised.value.hint == hint
