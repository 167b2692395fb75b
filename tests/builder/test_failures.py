"""How a failed step is shown."""

from builder.graph.vertices import SourceLines
from builder.running.failures import StepFailedError, marked_lines
from core.events import StepInfo

TEXT = "FROM base\nENV A=1\n\n  RUN one \\\n    && two\nRUN three\nRUN four\nRUN five\n"


def test_lines_around_the_instruction_are_numbered_and_marked() -> None:
    assert marked_lines(TEXT, SourceLines(4, 5)) == [
        "    2 |     ENV A=1",
        "    3 |",
        "    4 | >>>   RUN one \\",
        "      |       ^^^^^^^^^",
        "    5 | >>>     && two",
        "    6 |     RUN three",
        "    7 |     RUN four",
    ]


def test_carets_are_below_the_word_that_is_to_blame() -> None:
    text = "FROM base\nCOPY a \\\n\t b/a /x/\n"
    assert marked_lines(text, SourceLines(2, 3), "b/a") == [
        "    1 |     FROM base",
        "    2 | >>> COPY a \\",
        "    3 | >>> \t b/a /x/",
        "      |     \t ^^^",
    ]


def test_word_that_came_from_a_variable_leaves_the_instruction_to_blame() -> None:
    assert marked_lines("COPY $a /x/\n", SourceLines(1, 1), "a")[1] == "      |     ^^^^^^^^^^^"


def test_instruction_of_a_base_image_has_no_lines() -> None:
    assert marked_lines(TEXT, SourceLines(0, 0)) == []


def test_rendering_has_place_reason_lines_and_hint() -> None:
    error = StepFailedError(
        "it broke",
        step=StepInfo(1, "[2/2] RUN three"),
        lines=SourceLines(6, 6),
        exit_code=2,
        output_tail=b"",
        dockerfile=TEXT,
        dockerfile_name="sub/Dockerfile",
        hint="mend it",
    )
    lines = error.render().splitlines()
    assert lines[0] == "sub/Dockerfile:6:1: it broke"
    assert "    6 | >>> RUN three" in lines
    assert lines[-1] == "hint: mend it"
