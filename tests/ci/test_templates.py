"""Jobs as templates: what of the file they keep, values in their places, and messages that show them."""

from __future__ import annotations

import json

import pytest

from ci.document import MappingNode, read_document
from ci.errors import PipelineFileError
from ci.templates import Template, scalars

TEXT = b"""\
image: debian
env:
  A: "1"
  B: x-${NAME}-${lint.VERSION}
# what nobody needs
run:
  - make it
"""


@pytest.fixture
def template() -> Template:
    node, problems = read_document(TEXT, ".shiplap.yml")
    assert isinstance(node, MappingNode)
    return Template.of(node, problems.source)


def test_lines_of_keys_and_values_are_kept(template: Template) -> None:
    lines = TEXT.decode().splitlines()
    assert template.lines == {number: lines[number - 1] for number in (1, 2, 3, 4, 6, 7)}
    assert template.filename == ".shiplap.yml"


def test_values_with_and_without_keys(template: Template) -> None:
    assert [one.text for one in scalars(template.node)] == ["debian", "1", "x-${NAME}-${lint.VERSION}", "make it"]
    assert [one.text for one in scalars(template.node, keys=True)] == [
        "image", "debian", "env", "A", "1", "B", "x-${NAME}-${lint.VERSION}", "run", "make it",
    ]  # fmt: skip


def test_template_is_the_same_after_a_journey(template: Template) -> None:
    again = Template.from_data(json.loads(json.dumps(template.to_data())))
    assert again.lines == template.lines
    assert again.filename == template.filename
    assert again.to_data() == template.to_data()
    assert again.node.span == template.node.span


def test_values_take_their_places(template: Template) -> None:
    job = template.settled({"NAME": "web"}, {"lint": {"VERSION": "7"}})
    assert dict(job.env)["B"] == "x-web-7"


def test_value_that_is_missing_is_shown_where_it_is_wanted(template: Template) -> None:
    with pytest.raises(PipelineFileError) as failed:
        template.settled({"NAME": "web"}, {"lint": {}})
    shown = str(failed.value.render())
    assert "${lint.VERSION} has no value in this run" in shown
    assert "  B: x-${NAME}-${lint.VERSION}" in shown
    assert ".shiplap.yml:4:" in shown
