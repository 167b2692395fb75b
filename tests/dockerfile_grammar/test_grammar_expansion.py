"""Word expansion against tables of words and results."""

from __future__ import annotations

import pytest

from dockerfile_grammar import DockerfileError, ast, expand, expand_body, expand_with_names, expand_words, parse
from dockerfile_grammar.errors import ExpansionError
from dockerfile_grammar.expansion import heredoc_opener, split_raw
from dockerfile_grammar.growth import Growth

ENV = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": "", "FOO": "xxyy", "STAR": "a***yy*"}

WORDS = {
    # quotes and escapes
    "hello": "hello",
    "he'll'o": "hello",
    r"he\'llo": "he'llo",
    r"abc\tdef": "abctdef",
    r'"abc\tdef"': r"abc\tdef",
    r'"abc\\tdef"': r"abc\tdef",
    r"'abc\tdef'": r"abc\tdef",
    "hello\\": "hello",
    r"hello\\": "hello\\",
    '"hel\'lo"': "hel'lo",
    r"'hello\'": "hello\\",
    r"'hello\\there'": r"hello\\there",
    "\"''\"": "''",
    "'\"hello\"'": '"hello"',
    '""': "",
    "a b  c": "a b  c",
    "안녕하세요": "안녕하세요",
    "안'녕'하세요": "안녕하세요",
    "a<<b<c": "a<<b<c",
    # plain variables
    "$.": "$.",
    "$": "$",
    "a$": "a$",
    "$1": "",
    "he$1x": "hex",
    "he$10x": "hex",
    "he$.x": "he$.x",
    "he$pwd.": "he.",
    "he$PWD": "he/home",
    "$PWDx": "",
    r"he\$PWD": "he$PWD",
    r"he\\$PWD": "he\\/home",
    r'"he\$PWD"': "he$PWD",
    r'"he\\$PWD"': "he\\/home",
    r"he\${}": "he${}",
    "he${hi}xx": "hexx",
    "he${PWD}": "he/home",
    "'he${XX}'": "he${XX}",
    '"he${PWD}"': "he/home",
    "\"he'$PWD'\"": "he'/home'",
    r"'\$PWD'": r"\$PWD",
    "$KOREAN": "한국어",
    "안녕$KOREAN": "안녕한국어",
    "$$PWD": "PWD",
    "$@$*$#$?$-$!": "",
    "${@}${1}${#}": "",
    "$}": "$}",
    "}": "}",
    # defaults and alternatives
    "he${XXX:-000}xx": "he000xx",
    "he${PWD:-000}xx": "he/homexx",
    "he${XXX:-$PWD}xx": "he/homexx",
    "he${XXX:-${PWD:-yyy}}xx": "he/homexx",
    "he${XXX:-${YYY:-yyy}}xx": "heyyyxx",
    "he${XXX:+${PWD}}xx": "hexx",
    "he${PWD:+${XXX}}xx": "hexx",
    "he${PWD:+${SHELL}}xx": "hebashxx",
    "he${PWD:+000}xx": "he000xx",
    "he${PWD:+${PWD}:}xx": "he/home:xx",
    r"he${XXX:-\$PWD:}xx": "he$PWD:xx",
    r"he${XXX:-\${PWD}z}xx": "he${PWDz}xx",
    r"${XXX:-a\}b}": "a}b",
    "${NULL-x}": "",
    "${NULL:-x}": "x",
    "${XXX-x}": "x",
    "${NULL+x}": "x",
    "${NULL:+x}": "",
    "${XXX+x}": "",
    "${XXX:-}": "",
    "${XXX:-'a b' \"c\"}": "a b c",
    '"${XXX:-"q r"}"': "q r",
    "${XXX:-a/b:c}": "a/b:c",
    "${PWD?gone}": "/home",
    "${PWD:?gone}": "/home",
    "${NULL?gone}": "",
    # trimming
    "${FOO#x}": "xyy",
    "${FOO#*x}": "xyy",
    "${FOO##*x}": "yy",
    "${FOO#*}": "xxyy",
    "${FOO##*}": "",
    "${FOO#}": "xxyy",
    "${FOO##}": "xxyy",
    "${FOO#?}": "xyy",
    "${FOO#q}": "xxyy",
    "${FOO%y}": "xxy",
    "${FOO%y*}": "xxy",
    "${FOO%%y*}": "xx",
    "${FOO%x}": "xxyy",
    "${FOO%}": "xxyy",
    "${FOO#*x*y}": "y",
    "${FOO##*x*y}": "",
    "${FOO%x*y}": "x",
    "${FOO%%x*y}": "",
    "${FOO/x*y/-}": "-",
    "${FOO%%$NULL}": "xxyy",
    "${FOO#$SHELL}": "xxyy",
    r"${STAR%%\**\*}": "a",
    r"${STAR#a\*}": "**yy*",
    "${XXX#a}": "",
    "${FOO:#x}": "xyy",
    # replacing
    "${FOO/x/z}": "zxyy",
    "${FOO//x/z}": "zzyy",
    "${FOO/x/}": "xyy",
    "${FOO//[xy]/}": "xxyy",
    "${FOO/?y/-}": "x-y",
    "${FOO//*/-}": "-",
    "${FOO/$NULL/ww}": "wwxxyy",
    "${FOO//$NULL/w}": "wxwxwywyw",
    "${FOO///}": "xxyy",
    "${XXX///}": "",
    r"${PWD//\//\/}": r"\/home",
    "${PWD/\\/home//root}": "/root",
    "${FOO/x/$SHELL}": "bashxyy",
    "${FOO/x/'a b'}": "a bxyy",
    "${FOO//x/'$$'}": "$$yy",
}


@pytest.mark.parametrize(("word", "expected"), WORDS.items())
def test_word_expands(word: str, expected: str) -> None:
    assert expand(word, ENV) == expected


ERRORS = {
    "he'llo": "unterminated single quote",
    r"he\\'llo": "unterminated single quote",
    '"hello': "unterminated double quote",
    r'"hello\"': "unterminated double quote",
    '"${PWD}': "unterminated double quote",
    "'안녕하세요": "unterminated single quote",
    '${XXX:-"a}': "unterminated double quote",
    "he${.}": "bad substitution",
    "${}": "bad substitution",
    "${": "missing '}'",
    "${{PWD}": "bad substitution",
    "${:PWD}": "bad substitution",
    "${ PWD}": "bad substitution",
    "he${PWD": "missing '}'",
    "${PWD:-x": "missing '}'",
    "${PWD:-${SHELL}": "missing '}'",
    "he${XXX:YYY}": "unsupported modifier ':Y'",
    "he${PWD:=000}xx": "unsupported modifier ':='",
    "${PWD=x}": "unsupported modifier '='",
    "${PWD:}": "unsupported modifier ':}'",
    "${#PWD}": "unsupported modifier 'P'",
    "${FOO//ww}": "missing '/'",
    "${FOO//}": "missing '/'",
    "${FOO/x": "missing '/'",
    "${FOO/x/y": "missing '}'",
    r"${FOO#a\x}": "invalid escape",
    r"${FOO/\x/y}": "invalid escape",
    "${XXX?}": "XXX: is not allowed to be unset",
    "${NULL:?}": "NULL: is not allowed to be empty",
    "${XXX:?set it to $SHELL}": "XXX: set it to bash",
}


@pytest.mark.parametrize(("word", "message"), ERRORS.items())
def test_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(word, ENV)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a`$PWD", "a$PWD"), ("a\\$PWD", "a\\/home"), ("`'", "'"), ('"`"`t"', '"`t'), ("c:\\x", "c:\\x")],
)
def test_escape_directive_changes_the_escape_character(word: str, expected: str) -> None:
    assert expand(word, ENV, escape="`") == expected


@pytest.mark.parametrize(
    ("word", "env", "expected"),
    [
        ("hello", {}, ["hello"]),
        ("hello${hi}bye", {}, ["hellobye"]),
        ("hello${hi}bye", {"hi": "hi"}, ["hellohibye"]),
        ("hello${space}bye", {"space": "abc  def"}, ["helloabc", "defbye"]),
        ('hello"${space}"bye', {"space": "abc  def"}, ["helloabc  defbye"]),
        ('hello "${space}"bye', {"space": "abc  def"}, ["hello", "abc  defbye"]),
        ("hello${leading}def", {"leading": "  ab c"}, ["hello", "ab", "cdef"]),
        ("hello${trailing}", {"trailing": "ab c   "}, ["helloab", "c"]),
        ("hello${trailing}d", {"trailing": "ab c   "}, ["helloab", "c", "d"]),
        ('hello" there  "', {}, ["hello there  "]),
        ("hello there     ", {}, ["hello", "there"]),
        (r"hello\ there", {}, ["hello there"]),
        (r"hello\" there", {}, ['hello"', "there"]),
        ("hello'$there'", {}, ["hello$there"]),
        ("\"\" a ''", {}, ["a"]),
        ("80 ${ports}/tcp", {"ports": "1 2"}, ["80", "1", "2/tcp"]),
    ],
)
def test_words_are_split_after_expansion(word: str, env: dict[str, str], expected: list[str]) -> None:
    assert expand_words(word, env) == expected


def test_body_keeps_quotes_and_resolves_variables() -> None:
    body = "it's \"$SHELL\" ${XXX:-'q'}\nconst \\$x = `y`;\n$.\n"
    assert expand_body(body, ENV).text == "it's \"bash\" 'q'\nconst $x = `y`;\n$.\n"


@pytest.mark.parametrize(
    ("word", "used", "undefined"),
    [
        ("x", set(), set()),
        ("x ${UNUSED}", set(), {"UNUSED"}),
        ("${FOO-aaa} ${NULL:-bbb} ${BAZ-ccc}", {"FOO", "NULL"}, {"BAZ"}),
        ("${FOO:-$OTHER}", {"FOO"}, {"OTHER"}),
        ("${FOO#$PWD}${FOO/$SHELL/$X}", {"FOO", "PWD", "SHELL"}, {"X"}),
        ("'$A' \\$B", set(), set()),
    ],
)
def test_expansion_tells_which_variables_it_looked_up(word: str, used: set[str], undefined: set[str]) -> None:
    expansion = expand_with_names(word, ENV)
    assert (set(expansion.used), set(expansion.undefined)) == (used, undefined)


def test_go_template_in_replacement_of_all_matches() -> None:
    # Go's ReplaceAllString reads $ in the replacement, so BuildKit does; a single replacement is literal.
    env = {"V": "aXbX", "R": "<$0>$$"}
    assert expand("${V//X/$R}", env) == "a<X>$b<X>$"
    assert expand("${V/X/$R}", env) == "a<$0>$$bX"


def test_error_can_be_placed_later() -> None:
    dockerfile = parse('FROM debian\nENV a="b\n')
    env = dockerfile.stages[0].instructions[0]
    assert isinstance(env, ast.Env)
    (assignment,) = env.assignments
    with pytest.raises(ExpansionError) as caught:
        expand(assignment.value.text, {})
    placed = caught.value.at(dockerfile.source, assignment.value.span)
    assert isinstance(placed, DockerfileError)
    assert placed.render().splitlines() == [
        "Dockerfile:2:7: unterminated double quote in '\"b'",
        '    2 | ENV a="b',
        "      |       ^^",
        'hint: add a closing "',
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN  cat <<EOF", [("RUN", 0), ("cat", 5), ("<<EOF", 9)]),
        ("RUN <<  EOF", [("RUN", 0), ("<<  EOF", 4)]),
        ("RUN \"a  b\"c 'd'", [("RUN", 0), ('"a  b"c', 4), ("'d'", 12)]),
        (r"a\ b $X ${Y:-z} \$", [(r"a\ b", 0), ("$X", 5), ("${Y:-z}", 8), (r"\$", 16)]),
        ("echo it's", []),
    ],
)
def test_line_is_split_without_resolving(line: str, words: list[tuple[str, int]]) -> None:
    assert split_raw(line) == words


@pytest.mark.parametrize(
    ("word", "name", "expand_", "chomp", "descriptor"),
    [
        ("<<EOF", "EOF", True, False, 0),
        ("<<-EOF", "EOF", True, True, 0),
        ("<<'EOF'", "EOF", False, False, 0),
        ('<<-"EOF"', "EOF", False, True, 0),
        ('<<EO"F"', "EOF", False, False, 0),
        ("<< EOF", "EOF", True, False, 0),
        ("<<- EOF", "EOF", True, True, 0),
        ("<< -EOF", "-EOF", True, False, 0),
        ("4<<EOF", "EOF", True, False, 4),
        ("<<$EOF", "$EOF", True, False, 0),
        (r"<<eo\'f", "eo'f", True, False, 0),
        (r"<<'e'o\'f", "eo'f", False, False, 0),
    ],
)
def test_heredoc_opener(word: str, name: str, expand_: bool, chomp: bool, descriptor: int) -> None:
    opener = heredoc_opener(word)
    assert opener is not None
    assert (opener.name, opener.expand, opener.chomp, opener.file_descriptor) == (name, expand_, chomp, descriptor)


@pytest.mark.parametrize(
    "word", ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "<<'EOF", '<<EOF"', "a<<EOF", "<<''", "<<A<B"]
)
def test_no_heredoc_opener(word: str) -> None:
    assert heredoc_opener(word) is None


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "/"])
def test_pattern_of_many_stars_takes_no_exponential_time(operator: str) -> None:
    pattern = "*a" * 25 + "*b" + ("/x" if operator == "/" else "")
    assert expand(f"${{V{operator}{pattern}}}", {"V": "a" * 500}) == "a" * 500


def test_variables_cannot_make_a_word_of_any_length() -> None:
    """Each line of a Dockerfile can double a variable: forty would fill any memory."""
    assert len(expand("$V$V", {"V": "x" * 500_000})) == 1_000_000
    with pytest.raises(ExpansionError, match="variables make a word longer than"):
        expand("$V$V", {"V": "x" * 1_000_000})
    with pytest.raises(ExpansionError, match="variables make a word longer than"):
        expand("${V//a/$R}", {"V": "a" * 2000, "R": "b" * 2000})
    assert expand("long " * 400_000 + "$V", {"V": "x"}) == "long " * 400_000 + "x"  # what is written there is no growth


def test_variables_cannot_make_a_file_of_any_length() -> None:
    growth = Growth()
    for _ in range(16):
        growth.add("$V", "x" * ((1 << 20) + 2))
    growth.add("written, and long " * 1000, "shorter")  # which gives nothing back
    with pytest.raises(ExpansionError, match="longer by more than 16 MiB"):
        growth.add("", "x")
