"""An expression in a script becomes a variable that the shell reads, wherever it stands, and never a command."""

from __future__ import annotations

import subprocess
import time

import pytest

from ci.convert.shelltext import NotReadHereError, Variable, with_variables
from tests.toolkit.bounds import stretched

_VALUE = """a 'b' "c" $(touch made) `touch made` ; touch made # \\ *"""


def rewritten(script: str) -> str:
    return with_variables(script, lambda _: Variable("X", True))


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("printf %s ${{ x }}", "{}"),
        ('printf %s "<${{ x }}>"', "<{}>"),
        ("printf %s '<${{ x }}>'", "<{}>"),
        ("""printf %s 'it'\\''s ${{ x }}' """, "it's {}"),
        ("""printf %s "a \\" ${{ x }}" """, 'a " {}'),
        ("cat <<EOF\n'${{ x }}'\nEOF\n", "'{}'\n"),
        ("cat <<-EOF\n\t${{ x }}\n\tEOF\nprintf %s ${{ x }}", "{}\n{}"),
        ("# it's ${{ x }}\nprintf %s ${{ x }}", "{}"),
        ("cat <<'A' <<B\n$HOME\nA\n${{ x }}\nB\n", "{}\n"),
        ("printf %s x#${{ x }}", "x#{}"),
        ("v=${{x}}; printf %s \"$v\"", "{}"),
    ],
)  # fmt: skip
def test_a_value_is_printed_as_it_is_and_runs_nothing(shell: str, script: str, printed: str, tmp_path: object) -> None:
    done = subprocess.run(
        [shell, "-e", "-c", rewritten(script)], env={"X": _VALUE, "PATH": "/usr/bin:/bin"}, cwd=str(tmp_path),
        capture_output=True, text=True, timeout=stretched(20), check=True,
    )  # fmt: skip
    assert done.stdout == printed.replace("{}", _VALUE)
    listed = subprocess.run(["ls", str(tmp_path)], capture_output=True, text=True, timeout=stretched(20), check=True)
    assert listed.stdout == ""


@pytest.mark.parametrize(
    "script",
    ["cat <<'EOF'\n${{ x }}\nEOF\n", 'cat <<"EOF"\n${{ x }}\nEOF\n', "cat <<\\EOF\n${{ x }}\nEOF", "echo ${{ x"],
)
def test_where_the_shell_reads_nothing_nothing_is_put(script: str) -> None:
    with pytest.raises(NotReadHereError):
        rewritten(script)


def test_what_may_be_several_words_stays_so() -> None:
    assert with_variables("pip install ${{ matrix.p }}", lambda name: Variable(name[7:].upper(), False)) == (
        "pip install ${P}"
    )
    assert rewritten("echo $((1 << 2)) ${{ x }}").endswith('"${X}"')


def test_a_long_line_of_a_heredoc_is_read_once() -> None:
    """Looked for at each of its characters, the end of this line would take minutes."""
    script = f"cat <<END\n{'x' * 400_000} ${{{{ x }}}}\nEND\necho ${{{{ x }}}}"
    began = time.process_time()
    assert rewritten(script).endswith('${X}\nEND\necho "${X}"')
    assert time.process_time() - began < stretched(5)
