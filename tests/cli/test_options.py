"""Values of options, and what tables are made of."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from cli.containers.command import ContainerCommand
from cli.errors import CommandError
from cli.options import duration, env_file, host_pairs, image_name, pairs, text_pairs
from cli.table import age, rfc3339, table


def test_bare_name_takes_its_value_from_the_environment() -> None:
    assert pairs(["A=1", "B", "C=", "D"], "-e", environ={"B": "two"}) == {"A": "1", "B": "two", "C": ""}


def test_bare_name_is_empty_where_there_is_no_environment() -> None:
    assert pairs(["a", "b=c=d"], "--label") == {"a": "", "b": "c=d"}


def test_last_value_of_a_name_wins() -> None:
    assert pairs(["A=1", "A=2"], "-e") == {"A": "2"}


def test_value_without_a_name_is_refused() -> None:
    with pytest.raises(CommandError, match="--label '=x' has no name"):
        pairs(["=x"], "--label")


def test_env_file_is_taken_literally(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1 # kept\r\n  B='quoted'\nC\nD\n")
    assert env_file(str(file), {"C": "c"}) == {"A": "1 # kept", "B": "'quoted'", "C": "c"}


@pytest.mark.parametrize("line", ["export A=1", "A =1", "A\tB=1", "A\t=1", "A\u3000=1"])
def test_env_file_with_a_name_of_two_words_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"{line}\n")
    with pytest.raises(CommandError, match="white space") as refused:
        env_file(str(file), {})
    assert refused.value.hint == "write NAME=VALUE, one a line"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("db:10.0.0.7", ("db", "10.0.0.7")),
        ("db=::1", ("db", "::1")),
        ("db:::1", ("db", "::1")),
        ("a=[::1]", ("a", "::1")),
    ],
)
def test_add_host(text: str, parsed: tuple[str, str]) -> None:
    assert host_pairs([text]) == (parsed,)


@pytest.mark.parametrize("text", ["db", "db:", ":10.0.0.7", "db:host", "a b:10.0.0.7"])
def test_add_host_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--add-host"):
        host_pairs([text])


def test_name_given_to_an_image_has_a_tag_and_no_digest() -> None:
    assert image_name("app").familiar == "app:latest"
    with pytest.raises(CommandError, match="no digest"):
        image_name("app@sha256:" + "0" * 64)


def test_durations() -> None:
    assert duration("90s", "--older-than") == 90
    assert duration("2w", "--older-than") == 14 * 86400
    assert [duration(text, "-x") for text in ("1m", "36h", "14d", "0s")] == [60, 36 * 3600, 14 * 86400, 0]
    for text in ("", "h", "1", "1.5h", "-1h", "1y", "١h"):
        with pytest.raises(CommandError, match=f"--older-than '{text}' is no duration"):
            duration(text, "--older-than")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (3599, "59 minutes ago"),
        (3600, "About an hour ago"),
        (7200, "2 hours ago"),
        (86400 * 2, "2 days ago"),
        (86400 * 14, "2 weeks ago"),
        (86400 * 60, "2 months ago"),
        (86400 * 800, "2 years ago"),
    ],
)
def test_ages_in_dockers_words(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_columns_line_up_and_end_without_blanks() -> None:
    assert table(("A", "LONG NAME"), [("日本", "x"), ("bcd\x1b[2J", "")]) == "A      LONG NAME\n日本   x\nbcd"


def test_times_are_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


def test_bytes_that_are_no_text_are_refused() -> None:
    """Linux passes any bytes; Python shows those that are not UTF-8 as surrogates."""
    with pytest.raises(CommandError, match="is not UTF-8"):
        text_pairs(["NAME=\udcff"], "--build-arg")
    with pytest.raises(CommandError, match="is not UTF-8"):
        text_pairs(["NAME"], "--build-arg", environ={"NAME": "\udcff"})
    assert pairs(["NAME=\udcff"], "-e") == {"NAME": "\udcff"}
    assert text_pairs(["NAME=ä", "B"], "--build-arg", environ={"B": "b"}) == {"NAME": "ä", "B": "b"}
    assert pairs(["A=1", "A"], "-e", environ={}) == {}, "a name that is not set takes an earlier value back"


def test_words_behind_two_dashes_are_no_options() -> None:
    @click.command(cls=ContainerCommand)
    @click.option("--force/--no-force")
    @click.argument("words", nargs=-1)
    def command(force: bool, words: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
        return force, words

    assert command.main(["--force=false", "a"], standalone_mode=False) == (False, ("a",))
    assert command.main(["--force=1", "--", "--force=false"], standalone_mode=False) == (True, ("--force=false",))
