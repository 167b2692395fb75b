"""The typed tree: fields, and spans that point at what was written."""

from __future__ import annotations

import subprocess
import sys
from typing import TypeVar

import pytest

from dockerfile_grammar import DockerfileError, Span, ast, parse, parse_onbuild
from dockerfile_grammar.flags import parse_duration
from dockerfile_grammar.memo import decode, encode
from dockerfile_grammar.words import expandable_words

T = TypeVar("T", bound=ast.Instruction)


def only(kind: type[T], line: str, before: str = "FROM debian\n") -> T:
    """The instruction that ``line`` makes."""
    instruction = parse(before + line).stages[-1].instructions[-1]
    assert isinstance(instruction, kind)
    return instruction


def written(dockerfile: ast.Dockerfile, span: Span) -> str:
    """What stands at a span of one line."""
    assert span.start.line == span.end.line
    line = dockerfile.source.line(span.start.line)
    assert line is not None
    return line[span.start.column - 1 : span.end.column - 1]


def texts(words: tuple[ast.Word, ...]) -> list[str]:
    return [word.text for word in words]


def test_stages_meta_args_and_directives() -> None:
    dockerfile = parse(
        "# syntax=docker/dockerfile:1 x\n# escape=`\n# check=skip=A,B;error=true\nARG V=1\n"
        "FROM --platform=$BUILDPLATFORM debian:$V AS Build\nRUN make\nFROM scratch\nCOPY --from=build a b\n",
        "sub/Dockerfile",
    )
    assert dockerfile.filename == "sub/Dockerfile"
    assert dockerfile.directives.syntax is not None
    assert dockerfile.directives.syntax.text == "docker/dockerfile:1"
    assert dockerfile.escape == "`"
    assert dockerfile.directives.check == ast.CheckOptions(frozenset({"A", "B"}), error=True)
    assert [arg.declarations[0].name.text for arg in dockerfile.meta_args] == ["V"]
    first, second = dockerfile.stages
    assert (first.index, first.name, first.base.text) == (0, "build", "debian:$V")
    assert first.platform is not None
    assert first.platform.text == "$BUILDPLATFORM"
    assert first.from_.name is not None
    assert first.from_.name.text == "Build"
    assert (second.index, second.name, second.platform) == (1, None, None)
    assert [instruction.NAME for instruction in dockerfile.instructions] == ["ARG", "FROM", "RUN", "FROM", "COPY"]
    assert dockerfile.stage("BUILD") is first
    assert dockerfile.stage("none") is None
    assert (first.span.start.line, first.span.end.line) == (5, 6)


def test_last_stage_of_a_name_is_found() -> None:
    dockerfile = parse("FROM a AS x\nFROM b AS X\n")
    found = dockerfile.stage("x")
    assert found is not None
    assert found.index == 1


def test_check_directive_for_all_rules() -> None:
    options = parse("# check=skip=all;experimental=all\nFROM a\n").directives.check
    assert options.skip_all
    assert options.experimental_all
    assert not options.error


def test_keyword_and_as_keep_their_case() -> None:
    from_ = parse("from debian As x\n").stages[0].from_
    assert from_.keyword.text == "from"
    assert from_.as_keyword is not None
    assert from_.as_keyword.text == "As"


def test_original_is_the_joined_line() -> None:
    run = only(ast.Run, "RUN a \\\n  # comment\n  b   \n")
    assert run.original == "RUN a   b"
    assert (run.start_line, run.end_line) == (2, 4)


def test_comments_above_are_kept_with_the_instruction() -> None:
    dockerfile = parse("# one\n#\n# base is the base\n# two\nFROM a AS base\nRUN x\n")
    assert [comment.text for comment in dockerfile.stages[0].from_.comments] == ["base is the base", "two"]
    assert dockerfile.stages[0].from_.comments[0].span.start.line == 3
    assert dockerfile.stages[0].instructions[0].comments == ()


def test_empty_continuation_lines_are_numbered() -> None:
    run = only(ast.Run, "RUN a \\\n\n  \\\n \n  b\n")
    assert run.empty_continuations == (3, 5)


def test_run_command_forms() -> None:
    shell = only(ast.Run, "RUN echo  hi\n").command
    assert isinstance(shell, ast.ShellForm)
    assert shell.text == "echo  hi"
    exec_ = only(ast.Run, 'RUN ["a", "b c"]\n').command
    assert isinstance(exec_, ast.ExecForm)
    assert exec_.argv == ("a", "b c")


def test_run_flags() -> None:
    run = only(ast.Run, "RUN --network=none --mount=type=tmpfs,target=/x --mount=target=/y --security=insecure a\n")
    assert run.network == "none"
    assert run.security == "insecure"
    assert [flag.value for flag in run.mounts] == ["type=tmpfs,target=/x", "target=/y"]
    assert only(ast.Run, "RUN a\n").network == "default"
    assert only(ast.Run, "RUN a\n").security == "sandbox"
    assert [flag.value for flag in only(ast.Run, "RUN --device=v/c=x a\n").devices] == ["v/c=x"]


def test_heredocs_of_run() -> None:
    command = only(ast.Run, "RUN <<-'E' sh\n\t\ta\n\tE\n").command
    assert isinstance(command, ast.ShellForm)
    (heredoc,) = command.heredocs
    assert (heredoc.name, heredoc.content, heredoc.text) == ("E", "\t\ta\n", "a\n")
    assert (heredoc.expand, heredoc.chomp) == (False, True)
    assert (heredoc.body_span.start.line, heredoc.body_span.end.line) == (3, 4)


def test_copy_fields() -> None:
    copy = only(
        ast.Copy,
        "COPY --from=build --chown=a:b --chmod=0755 --link --parents=true --exclude=x --exclude=y s1 <<E s2 /d/\n"
        "c\nE\n",
    )
    assert copy.from_ is not None
    assert copy.chown is not None
    assert copy.chmod is not None
    assert (copy.from_.text, copy.chown.text, copy.chmod.text) == ("build", "a:b", "0755")
    assert (copy.link, copy.parents, texts(copy.exclude)) == (True, True, ["x", "y"])
    assert (texts(copy.sources), copy.destination.text) == (["s1", "s2"], "/d/")
    assert [heredoc.content for heredoc in copy.contents] == ["c\n"]


def test_copy_defaults() -> None:
    copy = only(ast.Copy, 'COPY --link=false --from= ["a b", "/c"]\n')
    assert (copy.link, copy.parents, copy.from_, copy.chown, copy.exclude) == (False, False, None, None, ())
    assert (texts(copy.sources), copy.json) == (["a b"], True)


def test_add_tells_given_from_default() -> None:
    add = only(ast.Add, "ADD --unpack=false --checksum=sha256:x a b\n")
    assert (add.unpack, add.keep_git_dir) == (False, None)
    assert only(ast.Add, "ADD --keep-git-dir a b\n").keep_git_dir is True


def test_assignments_keep_quotes() -> None:
    env = only(ast.Env, "ENV a=\"b c\" d='e'\n")
    assert [(item.name.text, item.value.text) for item in env.assignments] == [("a", '"b c"'), ("d", "'e'")]
    assert not env.legacy
    label = only(ast.Label, "LABEL a b c\n")
    assert [(item.name.text, item.value.text) for item in label.assignments] == [("a", "b c")]
    assert label.legacy


def test_declarations() -> None:
    arg = only(ast.Arg, "ARG A B= C=d\n")
    assert [(item.name.text, item.default and item.default.text) for item in arg.declarations] == [
        ("A", None),
        ("B", ""),
        ("C", "d"),
    ]


def test_healthcheck_in_nanoseconds() -> None:
    check = only(ast.Healthcheck, "HEALTHCHECK --interval=1m30s --timeout=.5s --retries=3 CMD x y\n")
    assert (check.interval_ns, check.timeout_ns, check.start_period_ns) == (90 * 10**9, 5 * 10**8, 0)
    assert check.retries == 3
    assert isinstance(check.command, ast.ShellForm)
    assert check.command.text == "x y"
    assert only(ast.Healthcheck, "HEALTHCHECK --retries=x NONE\n").command is None


def test_onbuild_trigger_text_and_instruction() -> None:
    onbuild = only(ast.Onbuild, "ONBUILD COPY <<A <<'B' /x/\n1\nA\n2\nB\n")
    assert onbuild.trigger == "COPY <<A <<'B' /x/\n1\nA\n2\nB"
    copy = onbuild.instruction
    assert isinstance(copy, ast.Copy)
    assert [heredoc.content for heredoc in copy.contents] == ["1\n", "2\n"]
    again = parse_onbuild(onbuild.trigger)
    assert isinstance(again, ast.Copy)
    assert again.contents[1].content == "2\n"


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("FROM x", "FROM isn't allowed"),
        ("ONBUILD RUN x", "ONBUILD isn't allowed"),
        ("MAINTAINER x", "MAINTAINER isn't allowed"),
        ("RUN a\nRUN b", "one instruction, not 2"),
        ("", "one instruction, not 0"),
        ("RNU x", "unknown instruction"),
    ],
)
def test_onbuild_trigger_of_a_base_image_is_checked(trigger: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        parse_onbuild(trigger)
    assert caught.value.message.startswith("ONBUILD trigger:1:1: ") or "not 2" in caught.value.message


def test_spans_point_at_what_was_written() -> None:
    dockerfile = parse(
        "FROM --platform=linux/amd64 debian:13 AS base\n"
        "  COPY --from=x --chown='a:b' one \\\n"
        "    two /three\n"
        "ENV k=v \\\n"
        '    name="a b"\n'
        'CMD ["x", \\\n'
        '  "y"]\n'
        "RUN --mount=type=cache,target=/c make\n"
    )
    from_ = dockerfile.stages[0].from_
    copy, env, cmd, run = dockerfile.stages[0].instructions
    assert isinstance(copy, ast.Copy)
    assert isinstance(env, ast.Env)
    assert isinstance(cmd, ast.Cmd)
    assert isinstance(cmd.command, ast.ExecForm)
    assert isinstance(run, ast.Run)
    assert from_.platform is not None
    assert from_.name is not None
    assert copy.from_ is not None
    assert copy.chown is not None
    pieces: dict[str, ast.Word | ast.Flag] = {
        "linux/amd64": from_.platform,
        "debian:13": from_.base,
        "base": from_.name,
        "COPY": copy.keyword,
        "x": copy.from_,
        "--chown='a:b'": copy.chown,
        "two": copy.sources[1],
        "/three": copy.destination,
        "k": env.assignments[0].name,
        "name": env.assignments[1].name,
        '"a b"': env.assignments[1].value,
        '"y"': cmd.command.arguments[1],
        "--mount=type=cache,target=/c": run.mounts[0],
    }
    assert {text: written(dockerfile, piece.span) for text, piece in pieces.items()} == {text: text for text in pieces}
    assert str(copy.destination.span) == "3:9"
    assert (copy.span.start.line, copy.span.start.column, copy.span.end.line) == (2, 3, 3)


def test_error_of_the_tree_shows_the_line() -> None:
    dockerfile = parse("FROM debian\nCOPY --from=biuld a b\n")
    copy = dockerfile.stages[0].instructions[0]
    assert isinstance(copy, ast.Copy)
    assert copy.from_ is not None
    error = dockerfile.error("no such stage: biuld", copy.from_.span, hint="did you mean build?")
    assert error.message == "Dockerfile:2:13: no such stage: biuld"
    assert str(error) == error.message
    assert error.filename == "Dockerfile"
    assert error.render().splitlines()[2] == "      |             ^^^^^"


def test_expandable_words() -> None:
    dockerfile = parse(
        "FROM --platform=p b\nCOPY --chown=o --from=f --exclude=e s d\nADD --checksum=c s d\nENV a=b\nLABEL l=m\n"
        "ARG x y=z\nEXPOSE 1\nVOLUME v\nUSER u\nWORKDIR w\nSTOPSIGNAL s\nRUN r\nCMD c\nONBUILD USER u\n"
    )
    words = [[word.text for word in expandable_words(instruction)] for instruction in dockerfile.instructions]
    assert words == [
        ["b", "p"],
        ["o", "s", "d"],
        ["c", "s", "d"],
        ["a", "b"],
        ["l", "m"],
        ["x", "y", "z"],
        ["1"],
        ["v"],
        ["u"],
        ["w"],
        ["s"],
        [],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("5s", 5 * 10**9),
        ("1h2m3.5s", 3723500000000),
        ("1.5ms", 1500000),
        (".5s", 500000000),
        ("1us", 1000),
        ("1µs", 1000),
        ("-1s", -(10**9)),
        ("+1s", 10**9),
        ("5", None),
        ("s", None),
        ("", None),
        ("1s ", None),
        ("1d", None),
        ("3000000h", None),
        ("٣s", None),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


def test_text_and_bytes_parse_alike() -> None:
    text = "FROM debian\nLABEL ü=é\n"
    assert parse(text) == parse(text.encode())


def test_comments_may_hold_any_bytes() -> None:
    assert len(parse(b"# caf\xe9\nFROM debian\n# \xff\nRUN a \\\n# \xfe\0\n b\n").stages) == 1


def test_remembered_parse_is_the_parse() -> None:
    text = (
        '# syntax=a\n# note\nARG A=1\nFROM a AS b\nRUN --mount=type=cache,target=/x <<E\nx\nE\nCMD ["a"]\n'
        "ONBUILD COPY --link a b\nHEALTHCHECK CMD x\n"
    )
    dockerfile = parse(text, "one")
    encoded = encode(dockerfile)
    assert encoded is not None
    assert decode(encoded, "one") == dockerfile
    assert decode(encoded, "two") == parse(text, "two")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", (encode(parse("FROM a\n")) or b"")[:-1]])
def test_bytes_that_are_no_parse_are_forgotten(data: bytes) -> None:
    assert decode(data, "Dockerfile") is None


def test_decoding_a_parse_does_not_import_lark() -> None:
    program = (
        "import sys; from dockerfile_grammar.memo import decode; decode(b'', 'x'); sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
