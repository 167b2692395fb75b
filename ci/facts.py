"""The variables that Shiplap itself gives to jobs, and that ``${NAME}`` may name."""

from __future__ import annotations

from typing import Final

FACTS: Final[dict[str, str]] = {
    "SHIPLAP_RUN": "the number of the run",
    "SHIPLAP_JOB": "the name of the job",
    "SHIPLAP_PROJECT": "the project",
    "SHIPLAP_EVENT": "push, tag, pull_request, manual or local",
    "SHIPLAP_BRANCH": "the branch that is run; of a pull request, its own",
    "SHIPLAP_TARGET": "the branch that a pull request is to go into",
    "SHIPLAP_TAG": "the tag",
    "SHIPLAP_COMMIT": "the commit, 40 digits or more",
    "SHIPLAP_SHORT_COMMIT": "its first 12 digits",
    "SHIPLAP_DESCRIBE": "the last tag before it, and how far that is: v1.2.0-14-g3f2a9c1",
    "SHIPLAP_COMMITTED_AT": "when it was made, in seconds since the epoch",
    "SHIPLAP_PULL_REQUEST": "the number of the pull request",
    "SHIPLAP_TITLE": "the first line of the commit's message, or the title of the pull request",
    "SHIPLAP_AUTHOR": "who the forge says pushed it",
    "SHIPLAP_URL": "the page of the run",
}

INSIDE_ONLY: Final[dict[str, str]] = {
    "CI": "true",
    "SHIPLAP_ATTEMPT": "which attempt of the job this is, from 1",
    "SHIPLAP_EXPORTS": "the file into which the job writes its exports",
}
"""Known to the job alone: its commands read them, ``${NAME}`` cannot."""
