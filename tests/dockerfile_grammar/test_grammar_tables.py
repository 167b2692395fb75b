"""The shipped parse tables: they are of the grammars at hand, and the grammars have no conflicts."""

from __future__ import annotations

import json
import logging
from importlib import resources

import lark
import pytest

from dockerfile_grammar import tables

REMEDY = "run python -m dockerfile_grammar.generate"


@pytest.mark.parametrize("name", tables.GRAMMARS)
def test_shipped_table_is_of_the_grammar(name: str) -> None:
    assert tables.shipped_digest(name) == tables.digest(name), REMEDY


@pytest.mark.parametrize("name", tables.GRAMMARS)
def test_shipped_table_is_of_the_installed_lark(name: str) -> None:
    text = resources.files("dockerfile_grammar").joinpath(f"{name}.table.json").read_text("utf-8")
    assert json.loads(text)["lark"] == lark.__version__, REMEDY


@pytest.mark.parametrize("name", tables.GRAMMARS)
def test_grammar_has_no_conflicts(name: str, caplog: pytest.LogCaptureFixture) -> None:
    # Lark resolves shift/reduce conflicts without a word, unless it is asked to debug.
    grammar = resources.files("dockerfile_grammar").joinpath(f"{name}.lark").read_text("utf-8")
    with caplog.at_level(logging.DEBUG, logger=lark.logger.name):
        lark.Lark(grammar, parser="lalr", start=list(tables.GRAMMARS[name]), maybe_placeholders=False, debug=True)
    assert [record.message for record in caplog.records if "conflict" in record.message.lower()] == []


@pytest.mark.parametrize("escape", ["\\", "`"])
@pytest.mark.parametrize(
    "line", ['RUN ["a"]', "ENV a=b\\c d=`x", "FROM --platform=x a AS b", 'ONBUILD COPY --from="a b" c d', "ARG a b=c"]
)
def test_shipped_and_computed_tables_parse_alike(escape: str, line: str) -> None:
    shipped = tables.parser("instruction", escape=escape).parse(line)
    assert shipped == tables.compute("instruction", escape=escape).parse(line)


def test_table_of_another_lark_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lark, "__version__", "0.0")
    parsed = tables.parser("mount").parse("a=b,c")
    assert len(parsed.children) == 2
