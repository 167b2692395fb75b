"""``run`` and ``args`` in a container: what they see, what is shown of them, what they leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ci.downloads import listed
from ci.errors import PipelineFileError
from ci.failedfiles import NewFiles
from containers.spec import File, Mount
from tests.ci.execution.jobshop import JobShop, jobshop


def test_entries_are_one_shell_and_a_step_each(shop: JobShop) -> None:
    outcome = shop.run("""
jobs:
  a:
    image: base:1
    run:
      - cd /tmp; HERE=yes; echo one
      - 'echo "two $HERE $(pwd)"'
      - echo three; false; echo never
      - echo four
""")
    assert (outcome.state, outcome.failure, outcome.exit_code) == ("failed", "failure", 1)
    assert outcome.message == "exit code 1: three"
    assert shop.last.steps == {
        "cd /tmp; HERE=yes; echo one": ("done", "one\n"),
        'echo "two $HERE $(pwd)"': ("done", "two yes /tmp\n"),
        "echo three; false; echo never": ("failed", "three\n"),
        "echo four": ("cancelled", ""),
    }
    assert shop.left() == []


def test_any_text_is_an_entry_and_none_of_ours_is_seen(shop: JobShop) -> None:
    """Quotes, here-documents, functions that hide builtins, and tracing: what is printed is the entry's own."""
    entries = [
        """printf '%s\\n' 'it'"'"'s'""",
        "cat <<END\nquote ' \" $((1 + 1))\nEND",
        "echo() { printf 'mine %s\\n' \"$@\"; }; set -x",
        "echo traced",
        "set +x; exit 0",
        "echo not run",
    ]
    text = "jobs:\n  a:\n    image: base:1\n    run:\n" + "".join(
        "      - |\n" + "".join(f"        {line}\n" for line in entry.split("\n")) for entry in entries
    )
    assert shop.run(text).state == "succeeded"
    assert list(shop.last.steps.values()) == [
        ("done", "it's\n"),
        ("done", "quote ' \" 2\n"),
        ("done", ""),
        ("done", "+ echo traced\n+ printf 'mine %s\\n' traced\nmine traced\n"),
        ("done", "+ set +x\n"),
        ("cancelled", ""),
    ]


@pytest.mark.parametrize("entry", ["echo 'unfinished", "if true", "f( }"])
def test_entry_that_is_no_shell_fails_alone(shop: JobShop, entry: str) -> None:
    outcome = shop.run(
        f"jobs:\n  a:\n    image: base:1\n    run: [echo one, {entry!r}, echo three]\n".replace("\\'", "''")
    )
    assert (outcome.state, outcome.failure, outcome.exit_code) == ("failed", "failure", 2)
    assert [outcome for outcome, _ in shop.last.steps.values()] == ["done", "failed", "cancelled"]


def test_markers_cannot_be_forged_by_what_is_printed_or_rung(shop: JobShop) -> None:
    """Printing says nothing; and who rings the bell out of turn moves nothing, and is not kept waiting."""
    outcome = shop.run("""
jobs:
  a:
    image: base:1
    run:
      - |
        printf '1\\n2\\n'; echo 0 >/run/shiplap/step; echo 2 >/run/shiplap/step; echo -1 >/run/shiplap/step
        head -c 100000 /dev/zero >/run/shiplap/step
        echo still one
      - echo two; sh -c 'sleep 0.2; echo late' &
      - wait; echo three
""")
    assert outcome.state == "succeeded"
    assert list(shop.last.steps.values()) == [
        ("done", "1\n2\nstill one\n"), ("done", "two\n"), ("done", "late\nthree\n"),
    ]  # fmt: skip


def test_output_and_errors_come_as_they_were_printed(shop: JobShop) -> None:
    script = "n=0; while [ $n -lt 300 ]; do echo out $n; echo err $n >&2; n=$((n + 1)); done"
    assert shop.run(f"jobs: {{a: {{image: 'base:1', run: '{script}'}}}}").state == "succeeded"
    assert shop.last.said == "".join(f"out {n}\nerr {n}\n" for n in range(300))


def test_output_is_parted_exactly_between_entries(shop: JobShop) -> None:
    entries = ", ".join(f"seq {n * 3000} {n * 3000 + 2999}" for n in range(8))
    assert shop.run(f"jobs: {{a: {{image: 'base:1', run: [{entries}]}}}}").state == "succeeded"
    for n, (outcome, said) in enumerate(shop.last.steps.values()):
        assert (outcome, said.split()) == ("done", [str(i) for i in range(n * 3000, n * 3000 + 3000)])


def test_other_shells(shop: JobShop) -> None:
    """A command gets the script's path: all entries are one script, and one step."""
    outcome = shop.run("jobs: {a: {image: 'base:1', shell: 'awk -f', run: ['BEGIN { x = 7 }', 'BEGIN { print x }']}}")
    assert (outcome.state, list(shop.last.steps.values())) == ("succeeded", [("done", "7\n")])
    outcome = shop.run("jobs: {a: {image: 'base:1', shell: bash, run: 'true'}}")
    assert (outcome.state, outcome.exit_code) == ("failed", 127)
    assert outcome.message == "base:1 has no bash (take an image that has it, or `args`: a command without a shell)"
    assert shop.run("jobs: {a: {image: 'base:1', shell: /opt/sh -e, run: 'true'}}").message.startswith(
        "base:1 has no /opt/sh ("
    )
    outcome = shop.run("jobs: {a: {image: 'base:1', args: [echo, '$HOME', '*']}}")
    assert (outcome.state, list(shop.last.steps.values())) == ("succeeded", [("done", "$HOME *\n")])


def test_variables_are_those_of_the_design(shop: JobShop) -> None:
    hostile = "x'; $(touch /work/no); `id`\" ${SHIPLAP_TAG}"
    text = """
env: {EVERYWHERE: "all ${SHIPLAP_EVENT}"}
jobs:
  a:
    image: base:1
    matrix: {PYTHON: [3.10]}
    env: {BRANCH: "on ${SHIPLAP_BRANCH}", PATH: /bin, PYTHON: own}
    run: [env | sort >env, 'cat env; ls']
"""
    assert shop.run(text, facts={"SHIPLAP_BRANCH": hostile, "SHIPLAP_TITLE": "t"}).state == "succeeded"
    *lines, ls = shop.last.said.splitlines()
    known = dict(line.partition("=")[::2] for line in lines)
    assert ls == "env"
    for name in ("PWD", "SHLVL", "HOME", "_", "OLDPWD", "_shiplap_options"):
        known.pop(name, None)
    assert known == {
        "CI": "true", "SHIPLAP_EXPORTS": "/run/shiplap/exports", "SHIPLAP_RUN": "7", "SHIPLAP_JOB": "a (3.10)",
        "SHIPLAP_ATTEMPT": "1", "SHIPLAP_EVENT": "push", "SHIPLAP_BRANCH": hostile, "SHIPLAP_TITLE": "t",
        "BRANCH": f"on {hostile}", "EVERYWHERE": "all push", "PYTHON": "own", "PATH": "/bin", "OF_THE_IMAGE": "yes",
        **dict.fromkeys(("SHIPLAP_PROJECT", "SHIPLAP_TARGET", "SHIPLAP_TAG", "SHIPLAP_COMMIT", "SHIPLAP_SHORT_COMMIT",
                         "SHIPLAP_DESCRIBE", "SHIPLAP_COMMITTED_AT", "SHIPLAP_PULL_REQUEST", "SHIPLAP_AUTHOR",
                         "SHIPLAP_URL"), ""),
    }  # fmt: skip


def test_job_with_inputs_sees_them_and_what_its_env_names(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    inputs: ["src/**"]
    matrix: {P: [1]}
    env: {B: "${SHIPLAP_BRANCH}"}
    run: "find . -type f; env | grep -v -e ^PATH= -e ^HOME= -e ^PWD= -e ^SHLVL= | sort; hostname"
"""
    files = {"src/a": "a", "secret": "s"}
    assert shop.run(text, files=files, facts={"SHIPLAP_BRANCH": "main"}).state == "succeeded"
    assert shop.last.said.split() == [
        "./src/a", "B=main", "CI=true", "OF_THE_IMAGE=yes", "P=1", "SHIPLAP_EXPORTS=/run/shiplap/exports", "shiplap",
    ]  # fmt: skip


def test_secrets_are_variables_and_files_and_never_seen(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    user: "1000"
    secrets: [KEY, {name: KEY, as: OTHER}, {name: PEM, file: /work/conf/pem}, {name: PEM, file: /run/pem},
              {name: NONE, optional: true}]
    outputs: {path: "**", optional: true}
    run: |
      [ "$KEY" = "$OTHER" ] && [ "$(cat /run/pem)" = "$(cat /work/conf/pem)" ] && echo "the key is $KEY"
      stat -c '%a %u' /run/pem /work/conf/pem; cat /run/pem; echo ${NONE-none}
      echo x >>/run/pem || echo cannot be written
"""
    secrets = {"KEY": b"correct-horse-battery", "PEM": b"-----BEGIN\nlong-line-of-a-key\n"}
    outcome = shop.run(text, given={"secrets": secrets})
    assert (outcome.state, outcome.message) == ("succeeded", "")
    assert outcome.outputs is not None
    assert b"pem" not in shop.store.layers.path(outcome.outputs).read_bytes()
    said = shop.last.said
    assert "the key is ****" in said or "the key is ***" in said
    assert "correct" not in said
    assert "long-line" not in said
    assert said.count("400 1000\n") == 2
    assert said.endswith("none\ncannot be written\n") or "cannot be written" in said


@pytest.mark.parametrize(
    ("secrets", "values", "message"),
    [
        ("[KEY]", {}, ("the job needs the secret KEY, which this run has not (`ci run --secret KEY=FILE` brings it; on "
         "a service `secret set --project PROJECT KEY FILE` does, but never to a fork's run. "
         "Or: {name: KEY, optional: true})")),
        ("[KEY]", {"KEY": b"with\0nul"}, ("the secret KEY cannot be a variable: it has a NUL byte (take it as a file: "
         "{name: KEY, file: PATH})")),
    ],
)  # fmt: skip
def test_secret_that_cannot_be_had_fails_before_anything_runs(
    shop: JobShop, secrets: str, values: dict[str, bytes], message: str
) -> None:
    outcome = shop.run(
        f"jobs: {{a: {{image: 'nowhere:1', secrets: {secrets}, run: 'true'}}}}", given={"secrets": values}
    )
    assert (outcome.state, outcome.failure, outcome.message) == ("failed", "", message)
    assert shop.last.events == []


def test_outputs_and_exports_reach_the_jobs_after(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    outputs: [out, {path: "gone", optional: true}]
    exports: [VERSION, EMPTY]
    run: |
      mkdir out; echo made >out/file; echo other >other; rm gone
      printf 'VERSION=1.2 = ü\\nEMPTY=\\n\\nVERSION=1.3\\n' >>$SHIPLAP_EXPORTS
  b:
    needs: a
    image: base:1
    env: {V: "v${a.VERSION}${a.EMPTY}"}
    run: 'echo $V; cat out/file; ls'
"""
    outcome = shop.run(text, files={"gone": "x", "kept": "y"})
    assert (outcome.state, outcome.outputs, outcome.exports) == ("succeeded", None, {})
    assert shop.outcomes["a"].exports == {"VERSION": "1.3", "EMPTY": ""}
    assert shop.last.said.split() == ["v1.3", "made", "kept", "out"]


EXPORTS = [
    ("echo A=1 >$SHIPLAP_EXPORTS; echo B=1 >>$SHIPLAP_EXPORTS",
     "line 2 of $SHIPLAP_EXPORTS exports B, which the job does not declare (add it: `exports: [A, B]`)"),
    ("head -c 33792 /dev/zero | tr '\\0' x >$SHIPLAP_EXPORTS",
     "the job wrote more than 32 KiB to $SHIPLAP_EXPORTS (larger things are outputs)"),
    ("printf 'A=one\\ntwo\\n' >$SHIPLAP_EXPORTS",
     "line 2 of $SHIPLAP_EXPORTS is not NAME=value (a value is one line; encode it where it has more)"),
    ("echo A=$KEY | sed s/c/c/ >$SHIPLAP_EXPORTS",
     "the export A has a secret in it (exports are shown; a job that needs the secret names it in `secrets`)"),
    ("echo A=$(printf %s $KEY | base64) >$SHIPLAP_EXPORTS",
     "the export A has a secret in it (exports are shown; a job that needs the secret names it in `secrets`)"),
    ("printf 'A=\\377\\376' >$SHIPLAP_EXPORTS", "line 1 of $SHIPLAP_EXPORTS is no UTF-8 (encode it, as base64)"),
    ("printf 'A=x\\0y' >$SHIPLAP_EXPORTS",
     "the export A has a NUL byte or a carriage return in it (encode it, or take it out)"),
    ("head -c 3000 /dev/urandom | tr -d '\\n' >$SHIPLAP_EXPORTS",
     "line 1 of $SHIPLAP_EXPORTS is no UTF-8 (encode it, as base64)"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "message"), EXPORTS)
def test_export_that_cannot_be_is_a_failure_that_says_which(shop: JobShop, script: str, message: str) -> None:
    text = f"jobs:\n  a:\n    image: base:1\n    secrets: [KEY]\n    exports: A\n    run: |\n      {script}\n"
    outcome = shop.run(text, given={"secrets": {"KEY": b"correct-horse-battery"}})
    assert (outcome.state, outcome.failure, outcome.exit_code, outcome.exports) == ("failed", "failure", 0, {})
    assert outcome.message == message


def test_nobody_can_put_something_else_in_the_place_of_the_exports(shop: JobShop) -> None:
    """Neither a link, nor a FIFO, nor a directory; and what was written before counts."""
    outcome = shop.run("""
jobs:
  a:
    image: base:1
    exports: A
    run: |
      echo A=1 >$SHIPLAP_EXPORTS
      rm -f $SHIPLAP_EXPORTS || echo stays
      ln -sf /etc/passwd $SHIPLAP_EXPORTS || echo stays
      mkdir /tmp/d; mv -T /tmp/d $SHIPLAP_EXPORTS || echo stays
      mkfifo /tmp/f; mv -f /tmp/f $SHIPLAP_EXPORTS || echo stays
      umount $SHIPLAP_EXPORTS || echo stays
""")
    assert (outcome.state, outcome.exports) == ("succeeded", {"A": "1"})
    assert shop.last.said.count("stays\n") == 5


def test_export_that_nobody_wrote_is_an_error_where_it_is_named(shop: JobShop) -> None:
    text = """
jobs:
  a: {image: "base:1", exports: [V], run: "true"}
  b: {image: "base:1", needs: a, env: {V: "${a.V}"}, run: "true"}
"""
    with pytest.raises(PipelineFileError) as caught:
        shop.run(text)
    assert caught.value.render().startswith(".shiplap.yml:4:43: error: ${a.V} has no value in this run")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("user: nobody-knows",
         "user: nobody-knows: the image has no nobody-knows in /etc/passwd or /etc/group (make it in the image"),
        ("user: nobody-knows, secrets: [{name: K, file: /k}]",
         ("user: nobody-knows: the image has no nobody-knows in /etc/passwd or /etc/group (make it in the image, or "
         "write a number)")),
        ("user: '70000'", "ID 70000 of user '70000' is not mapped in containers (IDs go from 0 to 65535)"),
        ("workdir: /etc/passwd/x", "cannot use /etc/passwd/x as working directory: Not a directory"),
        ("secrets: [{name: K, file: /etc}]", "cannot mount on /etc in the root filesystem: "),
        ("outputs: nothing", "there is no file for the output nothing"),
    ],
)  # fmt: skip
def test_job_that_cannot_be_is_a_failure_that_says_why(shop: JobShop, members: str, message: str) -> None:
    text = f"jobs: {{a: {{image: 'base:1', {members}, run: 'true'}}}}"
    outcome = shop.run(text, given={"secrets": {"K": b"a-secret-value"}})
    assert outcome.state == "failed"
    assert message in outcome.message
    assert shop.left() == []


def test_workspace_is_the_users_and_what_is_output_is_nobodys(shop: JobShop) -> None:
    """Another user owns all of it, writes anywhere in it, and what comes out is as if root had made it."""
    text = """
jobs:
  a:
    image: base:1
    user: "%s"
    outputs: "*"
    run: |
      id -u; id -g; pwd; cat d/f; stat -c '%%u %%g' . d d/f >/tmp/owners
      echo more >>d/f; mkdir new d/new; echo x >new/x; rm gone; mv d/g d/h; chmod 755 d/f
      sort -u /tmp/owners
  b: {image: "base:1", needs: a, run: "stat -c '%%n %%u %%g %%a' d/f d/h d/new new/x; cat d/f"}
"""
    files = {"d/f": "x\n", "d/g": "", "gone": ""}
    assert shop.run(text % "1000:50", files=files).state == "succeeded"
    assert shop.seen["a"].said.split() == ["1000", "50", "/work", "x", "1000", "50"]
    said = ["d/f 0 0 755", "d/h 0 0 644", "d/new 0 0 755", "new/x 0 0 644", "x", "more"]
    assert shop.last.said.splitlines() == said
    as_user = shop.outcomes["a"].outputs
    assert shop.run(text % "0", files=files).state == "succeeded"
    assert shop.outcomes["a"].outputs == as_user
    assert shop.left() == []


def test_terminal_is_for_output_and_stdin_is_empty(shop: JobShop) -> None:
    script = "[ -t 1 ] && [ -t 2 ] && echo terminal; [ -t 0 ] || echo no input; cat; tty; echo done >/dev/tty"
    assert shop.run(f"jobs: {{a: {{image: 'base:1', tty: true, run: '{script}'}}}}").state == "failed"  # of `tty`
    said = shop.last.said.replace("\r\n", "\n")
    assert said == "terminal\nno input\nnot a tty\n"
    assert (
        shop.run("jobs: {a: {image: 'base:1', run: '[ -t 1 ] || echo none; cat; readlink /proc/self/fd/0'}}").state
        == "succeeded"
    )
    assert shop.last.said == "none\n/dev/null\n"


def test_network_none_has_no_way_out(shop: JobShop) -> None:
    assert shop.run("jobs: {a: {image: 'base:1', network: none, run: 'ls /sys/class/net'}}").state == "succeeded"
    assert shop.last.said.split() == ["lo"]


class Git:
    """Stands for what shows ``.git``."""

    place = None

    @contextmanager
    def mounted(self, target: str, mtime_s: int) -> Iterator[Sequence[Mount]]:
        yield [File(f"{target}/HEAD", b"ref: refs/heads/main\n", 0o644)]


def test_git_is_seen_unless_inputs_say_what_is(shop: JobShop) -> None:
    text = "jobs: {a: {image: 'base:1', outputs: '**', run: 'cat .git/HEAD; touch made'}}"
    outcome = shop.run(text, given={"git": Git()}, files={"f": ""})
    assert (outcome.state, outcome.message, shop.last.said) == ("succeeded", "", "ref: refs/heads/main\n")
    text = "jobs: {a: {image: 'base:1', inputs: f, run: 'ls -A'}}"
    assert shop.run(text, given={"git": Git()}, files={"f": ""}).state == "succeeded"
    assert shop.last.said == "f\n"


def test_leftovers_of_the_job_do_not_outlive_it(shop: JobShop, tmp_path: Path) -> None:
    text = """
jobs:
  a:
    image: base:1
    outputs: "*"
    run: |
      (trap '' TERM HUP; setsid sh -c 'while :; do date >>beat; sleep 0.01; done' >/dev/null 2>&1 &)
      sleep 0.1
"""
    outcome = shop.run(text)
    assert outcome.state == "succeeded"
    assert outcome.outputs is not None
    assert shop.left() == []


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_of_debian(tmp_path: Path, debian_tar: Path, privileged: None, shell: str) -> None:
    """dash and bash: one shell for all entries, and what each of them calls an error."""
    text = f"""
jobs:
  a:
    image: debian:1
    shell: {shell}
    run:
      - |
        set -x; count=1
        cat <<'END'
        it's "quoted" $HOME
        END
      - |
        set +x
        add() {{ count=$((count + $1)); }}
        add 2; export count; cd /tmp
      - |
        printf '%s %s %s' "$count" "$(pwd)" "$$"; [ -t 0 ] || echo " no input"
        false | true && echo piped
      - echo after
"""
    with jobshop(tmp_path, debian_tar, "debian:1") as shop:
        outcome = shop.run(text)
        steps = list(shop.last.steps.values())
        assert 'it\'s "quoted" $HOME' in steps[0][1].splitlines()
        assert "shiplap" not in steps[0][1] + steps[1][1]
        assert steps[2][1].startswith("3 /tmp 2 no input\n")
        if shell == "sh":
            assert (outcome.state, steps[3]) == ("succeeded", ("done", "after\n"))
        else:
            assert (outcome.state, outcome.exit_code, steps[3]) == ("failed", 1, ("cancelled", ""))


def test_reports_are_read_of_a_job_that_fails_too(shop: JobShop) -> None:
    outcome = shop.run(
        """
jobs:
  a:
    image: base:1
    secrets: [KEY]
    run:
      - mkdir reports; echo "<testsuite><testcase name='one'/>" > reports/a.xml
      - |
        echo "<testcase name='two'><failure message='$KEY'/></testcase></testsuite>" >> reports/a.xml
        echo "# What $KEY did" > summary.md; echo 'total: 81.5 %'; exit 3
    reports: {junit: reports/*.xml, coverage: 'total: ([\\d.]+) %', summary: summary.md}
""",
        given={"secrets": {"KEY": b"sesame-0815"}},
    )
    assert (outcome.state, outcome.exit_code) == ("failed", 3)
    assert outcome.reports is not None
    assert [(case.name, case.outcome, case.message) for case in outcome.reports.cases] == [
        ("one", "passed", ""),
        ("two", "failed", "***"),
    ]
    assert (outcome.reports.coverage, outcome.reports.summary) == (81.5, "# What *** did\n")
    assert outcome.reports.notes == ()


def test_reports_that_are_not_there_change_no_outcome(shop: JobShop) -> None:
    outcome = shop.run("""
jobs:
  a:
    image: base:1
    run: echo nothing
    reports: {junit: [reports/*.xml], coverage: 'total: (\\d+)', summary: no.md}
""")
    assert outcome.state == "succeeded"
    assert shop.last.steps["[internal] read the reports"][0] == "done"
    assert shop.last.steps["[internal] read the reports"][1].count("warning: ") == 3


def test_reports_of_a_job_that_is_reused_are_those_of_its_run(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    inputs: [f]
    run: echo "<testsuite><testcase name='one'/></testsuite>" > a.xml
    reports: {junit: a.xml}
"""
    first = shop.run(text, files={"f": "x"})
    again = shop.run(text, files={"f": "x"})
    assert (first.state, again.state) == ("succeeded", "reused")
    assert first.reports == again.reports is not None
    assert shop.run(text.replace("a.xml}", "a*.xml}"), files={"f": "x"}).state == "succeeded"


def test_outputs_for_people_are_taken_of_the_end_that_they_are_for(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    run:
      - mkdir -p out shots; echo made >out/app; echo png >shots/1.png; echo log >all.log
      - exit CODE
    outputs:
      - plan
      - {path: out, name: dist, keep: 7d}
      - {path: all.log, name: dist, on: always}
      - {path: shots, name: shots, on: failure}
      - {path: none, name: none, on: failure}
      - {path: '*.log', name: logs, on: always}
"""
    good = shop.run(text.replace("CODE", "0").replace("      - plan\n", ""))
    assert [(each.name, each.count, each.size, each.keep_s) for each in good.published] == [
        ("dist", 2, 9, 30 * 86400), ("logs", 1, 4, 30 * 86400),
    ]  # fmt: skip
    assert good.outputs is not None
    with shop.store.layers.open(good.outputs) as layer:
        found = {file.path for file in listed(layer)}
    assert found == {"out", "out/app"}, "what is taken of failures, too, no job gets"
    bad = shop.run(text.replace("CODE", "3"))
    assert (bad.state, bad.exit_code, bad.outputs) == ("failed", 3, None)
    assert [(each.name, each.count) for each in bad.published] == [("dist", 1), ("shots", 1), ("logs", 1)]
    shop.store.images.prune(cache=True)  # somebody else's, before the caller keeps them
    for each in (*good.published, *bad.published):
        shop.store.layers.path(each.layer)
    missing = shop.run(text.replace("CODE", "0"))  # a success without `plan` is none
    assert missing.state == "failed"
    assert [each.name for each in missing.published] == ["dist", "shots", "logs"]


def test_an_output_for_people_that_cannot_be_taken_of_a_failure_is_told(shop: JobShop) -> None:
    outcome = shop.run("""
jobs:
  a:
    image: base:1
    run: mkfifo pipe; exit 3
    outputs: [{path: pipe, name: pipe, on: failure}]
""")
    assert (outcome.exit_code, outcome.published) == (3, ())
    assert "warning: pipe cannot be an output: it is a FIFO" in shop.last.said


def test_outputs_for_people_of_a_job_that_is_reused_are_those_of_its_run(shop: JobShop) -> None:
    text = """
jobs:
  a:
    image: base:1
    inputs: [f]
    run: cp f made; cp f seen
    outputs: [made, {path: seen, name: seen}]
"""
    first = shop.run(text, files={"f": "x"})
    again = shop.run(text, files={"f": "x"})
    assert (first.state, again.state) == ("succeeded", "reused")
    assert first.published == again.published != ()
    assert shop.run(text.replace("name: seen", "name: other"), files={"f": "x"}).state == "succeeded"
    longer = shop.run(text.replace("name: seen", "name: seen, keep: 90d"), files={"f": "x"})
    assert (longer.state, longer.published[0].keep_s) == ("reused", 90 * 86400)


def test_what_a_failed_job_leaves_may_have_the_secrets_of_those_before_it(shop: JobShop) -> None:
    text = """
jobs:
  login: {image: base:1, secrets: [KEY], outputs: [config], run: echo $KEY | rev > config}
  broken: {image: base:1, needs: [login], run: "false"}
  alone: {image: base:1, run: "false"}
"""
    left: list[NewFiles] = []

    def keep(new: NewFiles) -> str:
        left.append(new)
        return ""

    shop.run(text, given={"secrets": {"KEY": b"a secret key"}}, keep=keep)
    shop.run(text.replace("secrets: [KEY], ", ""), keep=keep)
    assert [each.files.had_secrets for each in left] == [True, False, False, False]
