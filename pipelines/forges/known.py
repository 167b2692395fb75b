"""The known forges, and the detection of a request's forge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipelines.forges.base import Forge
from pipelines.forges.bitbucket import Bitbucket
from pipelines.forges.gitea import Forgejo, Gitea
from pipelines.forges.github import GitHub
from pipelines.forges.gitlab import GitLab
from pipelines.forges.plain import Plain

FORGES: Final[Mapping[str, Forge]] = {
    forge.name: forge for forge in (Forgejo(), Gitea(), GitLab(), Bitbucket(), Plain(), GitHub())
}
"""By name. A forge whose headers others send too comes last: Forgejo also sends Gitea's, and both send GitHub's."""


def detect(headers: Mapping[str, str]) -> Forge | None:
    """The forge of a request, by its headers; None for no known forge. headers: names in lower case."""
    return next((forge for forge in FORGES.values() if forge.event_name(headers)), None)
