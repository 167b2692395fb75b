"""Go's templates, construct by construct: what docker's own command line would print of the same data."""

from __future__ import annotations

from typing import Any

import pytest

from cli.gotemplate import Template, TemplateRunError, TemplateSyntaxError
from cli.gotemplate.functions import HEADER_FUNCTIONS
from cli.gotemplate.printing import formatted, text_of

DATA: dict[str, Any] = {
    "name": "web", "empty": "", "none": None, "yes": True, "no": False, "zero": 0, "three": 3, "half": 0.5,
    "list": ["a", "b", "c"], "nothing": [], "map": {"b": "2", "a": "1"}, "mixed": {"n": 1, "t": "x"},
    "deep": {"er": {"value": 7}}, "say": lambda word: f"<{word}>", "me": lambda: "me",
}  # fmt: skip


def made(template: str, data: Any = DATA) -> str:
    return Template(template).run(data)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.name}}", "web"),
        ("{{.deep.er.value}}", "7"),
        ("{{$.name}}", "web"),
        ("{{$x := .deep}}{{$x.er.value}}", "7"),
        ("{{(index .list 1)}}", "b"),
        ("{{(.deep).er}}", "map[value:7]"),
        ("{{.say `x`}}", "<x>"),
        ("{{`x` | .say}}", "<x>"),
        ("{{.me}}", "me"),
        ("{{$.say `x`}}", "<x>"),
        ("{{with .deep}}{{.er.value}}{{$.name}}{{end}}", "7web"),
        ("{{with .empty}}x{{else}}y{{end}}", "y"),
        ("{{with $v := .three}}{{$v}}{{.}}{{end}}", "33"),
        ("{{if .yes}}a{{end}}{{if .no}}b{{end}}{{if .zero}}c{{end}}{{if .nothing}}d{{end}}{{if .none}}e{{end}}", "a"),
        ("{{if .no}}a{{else if .zero}}b{{else if .yes}}c{{else}}d{{end}}", "c"),
        ("{{if not .no}}a{{end}}", "a"),
        ("{{range .list}}{{.}}{{end}}", "abc"),
        ("{{range $i, $v := .list}}{{$i}}{{$v}}{{end}}", "0a1b2c"),
        ("{{range $v := .list}}{{$v}}{{end}}", "abc"),
        ("{{range $k, $v := .map}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .none}}x{{else}}none{{end}}", "none"),
        ("{{range .three}}{{.}}{{end}}", "012"),
        ("{{range .list}}{{if eq . `b`}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .list}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .list}}{{range $.list}}{{break}}{{end}}{{.}}{{end}}", "abc"),
        ("{{$x := 1}}{{range .list}}{{$x = .}}{{end}}{{$x}}", "c"),
        ("{{$x := 1}}{{range .list}}{{$x := .}}{{end}}{{$x}}", "1"),
        ("{{$x := 1}}{{if .yes}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .yes}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{and 1 0 2}}{{and 1 2}}{{or 0 `` 3}}{{or 0 ``}}|", "023|"),
        ("{{and .no (index .list 9)}}{{or .yes (index .list 9)}}", "falsetrue"),
        ("{{1 | or 0}}{{0 | and 1}}", "10"),
        ("{{.three | printf `%d-%d` 1}}", "1-3"),
        ("a {{- .name -}} b", "awebb"),
        ("a {{- /* c */ -}} b{{/* d */}}", "ab"),
        ("{{.name}}\n{{- .three}}", "web3"),
        ('{{"q\\t\\"\\u00e9"}}', 'q\t"é'),
        ("{{'a'}} {{'\\n'}} {{1e3}} {{0x1F}} {{-5}}", "97 10 1000 31 -5"),
        ("{{true}}{{false}}", "truefalse"),
    ],
)
def test_constructs(template: str, text: str) -> None:
    assert made(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{{eq 1 1}}{{eq 1 2}}{{eq 1 2 1}}{{eq `a` `a`}}{{eq .none .none}}{{eq .none 1}}",
            "truefalsetruetruetruefalse",
        ),
        ("{{ne 1 1}}{{ne 1 2}}", "falsetrue"),
        ("{{lt 1 2}}{{lt 2 2}}{{lt `a` `b`}}", "truefalsetrue"),
        ("{{le 2 2}}{{le 3 2}}", "truefalse"),
        ("{{gt 3 2}}{{gt 2 2}}", "truefalse"),
        ("{{ge 2 2}}{{ge 1 2}}", "truefalse"),
        ("{{index .list 0}}{{index .map `a`}}{{index .map `x`}}|{{index .mixed `x`}}", "a1|<no value>"),
        ("{{index `abc` 1}}", "98"),
        ("{{index .deep `er` `value`}}", "7"),
        ("{{slice .list 1}}{{slice .list 0 1}}{{slice `abc` 1 3}}{{slice .list 3}}", "[b c][a]bc[]"),
        ("{{len .list}}{{len .map}}{{len `é`}}", "322"),
        ("{{print 1 2 `a` 3 4}}|{{print `a` `b`}}", "1 2a3 4|ab"),
        ("{{println `a` 1}}", "a 1\n"),
        ("{{html `<a href='x'>&\"`}}", "&lt;a href=&#39;x&#39;&gt;&amp;&#34;"),
        ("{{js `it's <b>=\"\\`}}", "it\\'s \\u003Cb\\u003E\\u003D\\\"\\\\"),
        ("{{urlquery `a b&c`}}", "a+b%26c"),
        ("{{json .list}}{{json .name}}{{json .none}}{{json .half}}", '["a","b","c"]"web"null0.5'),
        ("{{split `a,b` `,`}}{{split `ab` ``}}", "[a b][a b]"),
        ("{{join .list `-`}}{{join .none `-`}}|", "a-b-c|"),
        ("{{title `the end of`}}", "The End Of"),
        ("{{lower `AbC`}}{{upper `AbC`}}", "abcABC"),
        ("{{pad `x` 1 2}}|{{pad `` 3 3}}|", " x  ||"),
        ("{{truncate `abcdef` 3}}{{truncate `ab` 3}}{{truncate `ab` 0}}", "abcab"),
    ],
)
def test_functions(template: str, text: str) -> None:
    assert made(template).replace("<nil>", "<no value>") == text


@pytest.mark.parametrize(
    ("form", "values", "text"),
    [
        ("%d|%5d|%-5d|%05d|%+d", [1, 2, 3, -4, 5], "1|    2|3    |-0004|+5"),
        ("%x %X %#x %o %b", [255, 255, 255, 8, 5], "ff FF 0xff 10 101"),
        ("%s|%5s|%-5s|%.2s|%05s", ["a", "b", "c", "def", "g"], "a|    b|c    |de|    g"),
        ("%q %q", ["a\n", ["b", "c"]], '"a\\n" ["b" "c"]'),
        ("%v %v %v %v", [1, "a", None, True], "1 a <nil> true"),
        ("%#v %v", ["a", ["x", 1]], '"a" [x 1]'),
        ("%T %T %T %T", [1, "a", 1.5, True], "int string float64 bool"),
        ("%T %T", [[], {}], "[]interface {} map[string]interface {}"),
        ("%t", [False], "false"),
        ("%x %X", ["hi", "hi"], "6869 6869"),
        ("%c %U", [65, 0x1F600], "A U+1F600"),
        ("%f %.2f %e %g %+.1f", [1.5, 1.239, 1500.0, 0.5, 2.0], "1.500000 1.24 1.500000e+03 0.5 +2.0"),
        ("%*d|%-*d|", [4, 7, 4, 7], "   7|7   |"),
        ("%%", [], "%"),
        ("%d", [], "%!d(MISSING)"),
        ("a", [1, "b"], "a%!(EXTRA int=1, string=b)"),
        ("%d %s", ["a", 1], "%!d(string=a) %!s(int=1)"),
        ("%s %d", [None, None], "%!s(<nil>) %!d(<nil>)"),
        ("%d", [True], "%!d(bool=true)"),
    ],
)  # fmt: skip
def test_printf(form: str, values: list[Any], text: str) -> None:
    assert formatted(form, values) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"), (0.5, "0.5"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (0.0001, "0.0001"),
        (0.00001, "1e-05"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (-2.5, "-2.5"),
        ({"b": 1, "a": [True, None]}, "map[a:[true <nil>] b:1]"), (None, "<nil>"), ([], "[]"),
    ],
)  # fmt: skip
def test_values(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.x}}", 'map has no entry for key "x"'),
        ("{{.none.x}}", 'nil data; no entry for key "x"'),
        ("{{.name.x}}", "can't evaluate field x in type string"),
        ("{{.three.x}}", "can't evaluate field x in type int"),
        ("{{.name 1}}", "has arguments but cannot be invoked as function"),
        ("{{.say}}", "wrong number of args"),
        ("{{.say 1 2}}", "wrong number of args"),
        ("{{eq 1}}", "missing argument for comparison"),
        ("{{eq 1 `a`}}", "incompatible types for comparison"),
        ("{{eq .list .list}}", "non-comparable type"),
        ("{{lt 1 `a`}}", "incompatible types"),
        ("{{lt true false}}", "incompatible types"),
        ("{{and}}", "wrong number of args for and"),
        ("{{index .list 3}}", "index out of range: 3"),
        ("{{index .list -1}}", "index out of range: -1"),
        ("{{index .list `a`}}", "cannot index slice/array with type string"),
        ("{{index .list true}}", "cannot index slice/array with type bool"),
        ("{{index .map 1}}", "value has type int; should be string"),
        ("{{index .none 1}}", "index of untyped nil"),
        ("{{index 1 1}}", "can't index item of type int"),
        ("{{slice .list 4}}", "index out of range: 4"),
        ("{{slice .list 2 1}}", "invalid slice index: 2 > 1"),
        ("{{slice .list 0 1 2}}", "can't slice item"),
        ("{{slice 1}}", "can't slice item of type int"),
        ("{{len 1}}", "len of type int"),
        ("{{len .none}}", "len of nil pointer"),
        ("{{split 1 `,`}}", "expected string; got int"),
        ("{{join `a` `,`}}", "expected []string; got string"),
        ("{{pad `a` `b` 1}}", "are no widths"),
        ("{{pad `a` 1048576 1}}", "are no widths"),
        ("{{truncate `a` -1}}", "is no length"),
        ("{{printf `%10001d` 1}}", "a width of 10001 is too much"),
        ("{{printf 1}}", "expected string; got int"),
        ("{{range .name}}{{end}}", "range can't iterate over web"),
        ("{{range .yes}}{{end}}", "range can't iterate over true"),
    ],
)
def test_what_fails_says_why(template: str, words: str) -> None:
    with pytest.raises(TemplateRunError) as failed:
        made(template)
    assert words in failed.value.message


def test_place_of_what_failed_is_told() -> None:
    with pytest.raises(TemplateRunError) as failed:
        made("a\nb {{.x}}")
    assert failed.value.message == 'template: :2:4: executing "" at <.x>: map has no entry for key "x"'


@pytest.mark.parametrize(
    "template",
    ["{{", "{{.}", "{{5x}}", "{{.name | 1}}", "{{else}}", "{{if .x}}{{else}}{{else}}{{end}}", "{{range}}{{end}}",
     "{{$x = 1}}", "{{`a}}", "{{'a}}", "{{)}}", "{{(1}}", "{{.name }} {{ } }}", "{{continue}}", "{{#}}"],
)  # fmt: skip
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        Template(template)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{5x}}", "bad number syntax: '5x'"),
        ("{{12a}}", "bad number syntax: '2a'"),
        ("{{", "unclosed action"),
        ("{{.a\n", "unclosed action"),
        ('{{"a', "unterminated quoted string"),
        ("{{`a", "unterminated raw quoted string"),
        ("{{'a", "unterminated character constant"),
        ("{{ } }}", "unexpected '}' in operand"),
        ("{{#}}", "unexpected character in action: U+0023 '#'"),
        ("a\n{{5x}}", "template: :2: bad number"),
    ],
)
def test_what_is_no_template_says_where_and_why(template: str, words: str) -> None:
    with pytest.raises(TemplateSyntaxError) as failed:
        Template(template)
    assert words in failed.value.message


def test_widest_that_printf_prints() -> None:
    assert len(formatted("%10000d", [1])) == 10_000
    assert len(made("{{pad `a` 1048575 0}}")) == 1_048_576


def test_header_of_a_table_is_left_alone_by_functions_that_change_values() -> None:
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate"):
        rest = "" if name in ("json", "title", "lower", "upper") else " `,`"
        assert Template(f"{{{{{name} .NAME{rest}}}}}", HEADER_FUNCTIONS).run({"NAME": "NAMES OF"}) == "NAMES OF"
    assert Template("{{pad .NAME 1 1}}", HEADER_FUNCTIONS).run({"NAME": "N"}) == " N "


def test_row_writes_itself_as_json_without_its_methods() -> None:
    assert made("{{json .}}", {"b": "<&>", "a": 1, "Label": lambda _name: ""}) == '{"a":1,"b":"\\u003c\\u0026\\u003e"}'
    assert made("{{json .}}", {"b": "<", "a": 1}) == '{"b":"<","a":1}'
