"""The language of a part: a file of jobs that pipelines use, with parameters of its own."""

from __future__ import annotations

from typing import Any, Final

from ci.language.jobs import JOB_SHAPE
from ci.language.limits import MAX_JOBS
from ci.language.names import JOB_NAME
from ci.language.pipelines import PARAMS
from ci.language.services import DEFINITIONS
from ci.language.shapes import Deferred, Fields, Key, MapOf

TOP: Final[dict[str, Key]] = {
    "jobs": Key(Deferred(MapOf(JOB_NAME, JOB_SHAPE, least=1, most=MAX_JOBS)), "the jobs, by name", is_required=True),
    "services": Key(DEFINITIONS, "services that its jobs may use, by name: it sees none of who uses it"),
    "params": Key(PARAMS, "its parameters, by name: whoever uses it gives them in `with`"),
}
PART: Final[Fields[dict[str, Any]]] = Fields("a part", dict, TOP, others="x-")
"""The whole file. What comes of it is put together by ``ci.parts``."""
