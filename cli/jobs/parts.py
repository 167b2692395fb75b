"""The files of the parts that pipelines on this machine use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from builder.remotes.access import SourceAccess
from ci.language.names import PartPlace
from ci.parsing import DIRECTORY
from ci.parts import ReadPart
from ci.source.parts import PartsElsewhere, parts_of_directory
from core.settings import FetchSettings, Settings

_NO_SECRETS: Final[Mapping[str, bytes]] = MappingProxyType({})


def parts_here(top: Path, root: str | None = None, secrets: Mapping[str, bytes] = _NO_SECRETS) -> ReadPart:
    """Reads parts of a working tree, and of other repositories with what the secrets have for their hosts.

    root: the value of ``--root``; mirrors of other repositories are kept there.
    secrets: ``GIT_AUTH_TOKEN.HOST`` and the like are used; without a host they would go to whichever the file names.
    """

    def read(place: PartPlace) -> bytes:
        of_hosts = {name: value for name, value in secrets.items() if "." in name}
        access = SourceAccess(bounds=FetchSettings.from_environ()).git(of_hosts)
        return parts_of_directory(top, PartsElsewhere(Settings.from_environ(root=root).root, "", access))(place)

    return read


def top_of(file: Path) -> Path:
    """The directory to which paths in a pipeline file belong: the one that has ``.shiplap.yml`` or ``.shiplap/``."""
    above = file.absolute().parent
    return above.parent if above.name == DIRECTORY else above
