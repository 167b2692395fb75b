"""A process with a terminal joins a container whose first process is ours, as somebody does who looks into a job."""

from __future__ import annotations

import os

from tests.containers.running import Runner
from tests.toolkit.bounds import stretched
from tests.toolkit.terminals import read_until


def test_process_that_joins_has_a_terminal_of_its_own_and_ends_with_the_container(run: Runner) -> None:
    with open(os.devnull, "r+b") as null:
        fd = null.fileno()
        spec = run.spec("sh", "-c", "echo mine > /file; while ! test -e /go; do sleep 0.1; done; exit 4", init=True)
        with run.launcher.start(spec, stdin=fd, stdout=fd, stderr=fd) as container:
            looking = spec._replace(args=("sh",), terminal=True, terminal_size=(31, 97))
            with container.execute(looking, stdin=fd, stdout=fd, stderr=fd) as joined:
                assert joined.terminal is not None
                os.write(joined.terminal, b"stty size; cat /file; tty\n")
                shown = read_until(joined.terminal, b"/dev/pts/")
                assert b"31 97" in shown
                assert b"mine" in shown
                joined.resize(40, 120)
                os.write(joined.terminal, b"stty size; exit 9\n")
                read_until(joined.terminal, b"40 120")
                assert joined.wait(stretched(30)).code == 9
            with container.execute(looking, stdin=fd, stdout=fd, stderr=fd) as joined:
                os.write(joined.terminal or -1, b"touch /go; sleep 1000\n")
                assert container.wait(stretched(30)).code == 4
                assert joined.wait(stretched(30)).code == 137
