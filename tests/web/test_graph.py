"""The layout of the graph of jobs: columns, order within a column, edges, matrices as boxes."""

from __future__ import annotations

import itertools
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from ci.graph import JobNode
from web.pages.graph import HEIGHT, Box, Graph, lay_out, related, states_in_words


def columns(graph: Graph) -> list[list[str]]:
    """Names of the boxes of each column, from above."""
    found: dict[int, list[Box]] = {}
    for box in graph.boxes:
        found.setdefault(box.column, []).append(box)
    return [[box.name for box in sorted(found[column], key=lambda box: box.y)] for column in sorted(found)]


def edges(graph: Graph) -> set[tuple[str, str]]:
    return {(graph.boxes[edge.before].name, graph.boxes[edge.after].name) for edge in graph.edges}


def test_column_is_how_many_jobs_come_before_at_most() -> None:
    graph = lay_out(
        [
            JobNode("deploy", needs=("app", "lint")), JobNode("lint"), JobNode("test", needs=("gen",)),
            JobNode("app", needs=("lint", "test")), JobNode("gen"),
        ]
    )  # fmt: skip
    assert [set(column) for column in columns(graph)] == [{"lint", "gen"}, {"test"}, {"app"}, {"deploy"}]
    assert edges(graph) == {
        ("app", "deploy"), ("lint", "deploy"), ("gen", "test"), ("lint", "app"), ("test", "app"),
    }  # fmt: skip


def test_column_is_in_the_order_of_the_file_until_edges_would_cross() -> None:
    assert columns(lay_out([JobNode(name) for name in "cab"])) == [["c", "a", "b"]]
    crossed = lay_out([JobNode("a"), JobNode("b"), JobNode("x", needs=("b",)), JobNode("y", needs=("a",))])
    assert columns(crossed) in ([["a", "b"], ["y", "x"]], [["b", "a"], ["x", "y"]])


def test_matrix_is_one_box_until_it_is_opened() -> None:
    jobs = [
        JobNode("lint"), JobNode("test (3.11)", needs=("lint",), matrix="test"),
        JobNode("test (3.13)", needs=("lint",), matrix="test"), JobNode("app", needs=("test (3.11)", "test (3.13)")),
    ]  # fmt: skip
    closed = lay_out(jobs)
    assert columns(closed) == [["lint"], ["test × 2"], ["app"]]
    assert edges(closed) == {("lint", "test × 2"), ("test × 2", "app")}
    assert [(box.jobs, box.is_lapped, box.matrix) for box in closed.boxes] == [
        ((0,), False, ""), ((1, 2), True, "test"), ((3,), False, ""),
    ]  # fmt: skip
    opened = lay_out(jobs, {"test"})
    assert columns(opened) == [["lint"], ["test (3.11)", "test (3.13)"], ["app"]]
    assert len(opened.edges) == 4
    assert not any(box.is_lapped for box in opened.boxes)


def test_matrix_of_one_job_has_that_job_s_name() -> None:
    (box,) = lay_out([JobNode("test (a)", matrix="test")]).boxes
    assert (box.name, box.is_lapped) == ("test (a)", False)


def test_long_name_is_cut_and_its_matrix_still_counted() -> None:
    name = "integration-" * 3 + "tests"
    jobs = [JobNode(f"{name} ({value})", matrix=name) for value in "ab"]
    (box,) = lay_out(jobs).boxes
    assert box.name == f"{name} × 2"
    assert box.label.endswith("… × 2")
    assert len(box.label) < len(box.name)


def test_no_jobs_make_an_empty_graph() -> None:
    assert lay_out([]).boxes == ()


def test_of_many_jobs_those_before_and_behind_one_are_related() -> None:
    jobs = [
        JobNode("a"), JobNode("b", needs=("a",)), JobNode("c", needs=("a",)), JobNode("d", needs=("b",)),
        JobNode("e", needs=("d", "c")),
    ]  # fmt: skip
    assert [job.name for job in related(jobs, "b")] == ["a", "b", "d", "e"]
    assert related(jobs, "other") == jobs


_graphs = st.integers(1, 30).flatmap(
    lambda count: st.lists(
        st.tuples(st.lists(st.integers(0, 29), max_size=4), st.sampled_from(["", "", "m", "n"])),
        min_size=count,
        max_size=count,
    )
)


@given(_graphs, st.booleans())
def test_whatever_the_graph_boxes_do_not_meet_and_edges_go_forward(
    drawn: list[tuple[list[int], str]], is_open: bool
) -> None:
    # Jobs of a matrix need the same, as in a file: what is before the first of them.
    firsts = {matrix: index for index, (_, matrix) in reversed(list(enumerate(drawn))) if matrix}
    jobs = []
    for index, (needs, matrix) in enumerate(drawn):
        wanted = drawn[firsts[matrix]][0] if matrix else needs
        limit = firsts[matrix] if matrix else index
        names = tuple(f"j{need}" for need in sorted(set(wanted)) if need < limit and (not matrix or not drawn[need][1]))
        jobs.append(JobNode(f"j{index}", needs=names, matrix=matrix))
    graph = lay_out(jobs, {"m", "n"} if is_open else ())
    assert sorted(index for box in graph.boxes for index in box.jobs) == list(range(len(jobs)))
    for box in graph.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= graph.width
        assert box.y + HEIGHT <= graph.height
    for edge in graph.edges:
        before, after = graph.boxes[edge.before], graph.boxes[edge.after]
        assert before.column < after.column
        assert edge.path.startswith(f"M{before.x + before.width:.1f}".removesuffix(".0") + " ")
        assert edge.path.endswith(f"H{after.x:.1f}".removesuffix(".0"))
        assert _crosses(edge.path, graph) == []
    for column in {box.column for box in graph.boxes}:
        tops = sorted(box.y for box in graph.boxes if box.column == column)
        assert all(after - before > HEIGHT for before, after in itertools.pairwise(tops))


def _crosses(path: str, graph: Graph) -> list[str]:
    """Boxes through which a path goes: where it is straight, it lies beside them."""
    found = []
    x, y = 0.0, 0.0
    for kind, text in re.findall(r"([MHVQ])([^MHVQ]*)", path):
        numbers = [float(number) for number in text.split()]
        to = {"M": (numbers[0], numbers[-1]), "H": (numbers[0], y), "V": (x, numbers[0]), "Q": tuple(numbers[-2:])}[
            kind
        ]
        if kind == "H":
            found += [
                box.name
                for box in graph.boxes
                if box.y < y < box.y + HEIGHT
                and min(x, to[0]) < box.x + box.width - 0.1
                and box.x + 0.1 < max(x, to[0])
            ]
        x, y = to
    return found


def test_256_jobs_are_placed_in_no_time() -> None:
    jobs = [
        JobNode(f"job-{index}", needs=tuple(f"job-{need}" for need in range(max(0, index - 24), index - 16)))
        for index in range(256)
    ]
    began = time.process_time()
    graph = lay_out(jobs)
    assert len(graph.edges) > 1500
    assert time.process_time() - began < 1


def test_graph_is_drawn_where_its_boxes_and_lines_have_room() -> None:
    graph = lay_out(
        [
            JobNode("lint"), JobNode("docs"), JobNode("test (a)", needs=("lint",), matrix="test"),
            JobNode("test (b)", needs=("lint",), matrix="test"),
            JobNode("app", needs=("test (a)", "test (b)", "lint", "docs")),
        ]
    )  # fmt: skip
    places = [(box.label, round(box.x, 1), round(box.y, 1), round(box.width, 1)) for box in graph.boxes]
    assert places == [
        ("lint", 4.0, 4.0, 66.8), ("docs", 4.0, 38.0, 66.8), ("test × 2", 106.8, 7.0, 95.6), ("app", 238.4, 21.0, 59.6),
    ]  # fmt: skip
    at_app, near_app = "Q220.4 34 226.4 34H238.4", "Q220.4 34 225.4 34H238.4"
    assert [edge.path for edge in graph.edges] == [
        "M70.8 17H87.3Q88.8 17 88.8 18.5V18.5Q88.8 20 90.3 20H106.8",
        f"M70.8 17H82.8Q88.8 17 88.8 23V38Q88.8 44 94.8 44H106.8H202.4H215.4Q220.4 44 220.4 39V39{near_app}",
        f"M70.8 51H85.3Q88.8 51 88.8 54.5V54.5Q88.8 58 92.3 58H106.8H202.4H214.4Q220.4 58 220.4 52V40{at_app}",
        f"M202.4 20H214.4Q220.4 20 220.4 26V28{at_app}",
    ]
    assert (round(graph.width, 1), round(graph.height, 1)) == (306.0, 72.0)


def test_picture_is_as_large_as_what_is_in_it() -> None:
    def size(*jobs: JobNode) -> tuple[float, float]:
        graph = lay_out(jobs)
        return round(graph.width, 1), round(graph.height, 1)

    assert size() == (8.0, 8.0)
    assert size(JobNode("a")) == (57.2, 34.0)
    assert size(JobNode("a"), JobNode("b")) == (57.2, 68.0)
    assert size(JobNode("日本語")) == (93.2, 34.0), "such characters are two wide"
    assert size(JobNode("m (a)", matrix="m"), JobNode("m (b)", matrix="m")) == (86.0, 38.0), (
        "the second board looks out"
    )
    assert size(JobNode("m (a)", matrix="m")) == (86.0, 34.0)


def test_label_has_at_most_26_characters() -> None:
    def labels(*jobs: JobNode) -> list[str]:
        return [box.label for box in lay_out(jobs).boxes]

    assert labels(JobNode("x" * 26), JobNode("y" * 27)) == ["x" * 26, "y" * 25 + "…"]
    name = "m" * 30
    assert labels(*[JobNode(f"{name} ({value})", matrix=name) for value in "ab"]) == ["m" * 21 + "… × 2"]


def test_states_are_counted_in_the_order_in_which_they_come_first() -> None:
    assert states_in_words(["running", "failed", "running"]) == "2 running, 1 failed"
    assert states_in_words([]) == ""
