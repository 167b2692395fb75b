from __future__ import annotations

import pytest

from core.gobool import parse_bool


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        (True, ("1", "t", "T", "true", "TRUE", "True")),
        (False, ("0", "f", "F", "false", "FALSE", "False")),
        (None, ("", " ", "yes", "no", "on", "tRUE", "fALSE", "01", "2", " true", "true\n")),
    ],
)
def test_parse_bool_takes_what_go_takes(said: bool | None, texts: tuple[str, ...]) -> None:
    """Source: Go, strconv/atob_test.go; and what people write besides."""
    assert [parse_bool(text) for text in texts] == [said] * len(texts)
