"""``shiplap ci why``: why jobs would run, or whose results they would have."""

from __future__ import annotations

from collections.abc import Sequence

import click

from builder.explaining.words import in_words
from ci.errors import CiError, JobCancelledError
from ci.execution.job import look
from ci.local.looking import Answer, ask
from ci.local.selecting import named
from cli.errors import describe
from cli.guarding import say
from cli.jobs.asked import About
from cli.jobs.opened import WRONG, NothingIsRunError, opened_run, warn_in_words
from cli.jobs.words import ALWAYS, whose_result
from cli.progress.text import harmless
from core.cancellation import asking


def why_here(root: str | None, insecure: Sequence[str], about: About, job: str) -> int:
    """Print it. Returns the exit code. Raises ShiplapErrors and OSErrors for what the machine did wrong.

    job: the name of a job, or of all of a matrix or a part.
    """
    try:
        with opened_run(root, insecure, about, [job], warn_in_words) as opened, asking(opened.requests.check):
            answers = ask(opened.plan.jobs, opened.given, opened.tools, look)
            asked = set(named(opened.plan, job))
    except NothingIsRunError as error:
        return error.code
    except JobCancelledError:
        return opened.received.exit_code
    except CiError as error:
        say(describe(error))
        return WRONG
    for answer in answers:
        if answer.job in asked:
            click.echo(harmless(f"{answer.job}: {_words(answer)}", colours=False))
    return 0


def _words(answer: Answer) -> str:
    if answer.outcome is not None:
        return f"it would be reused: {whose_result(answer.outcome.reused_from)}"
    if answer.always:
        return f"it would run: {ALWAYS[answer.always]}"
    if answer.waits_for:
        return f"it would run after {answer.waits_for}, which would run: what that leaves is not known before"
    return f"it would run: {in_words(answer.changes)}"
