"""The names in paths and bodies, with their allowed forms: for the document, and for messages about mistakes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

ProjectName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        description="a project's name: up to 100 lower-case letters, digits, '.', '_' and '-'",
    ),
]
SecretName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
        description="a secret's name: up to 100 letters, digits, '_', '.' and '-', beginning with none of the last two",
    ),
]
Commit: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9a-f]{12,64}$", description="a commit's id: 12 to 64 hexadecimal digits, in lower case"),
]
DigestText: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$", description="a digest: sha256: and 64 hexadecimal digits")
]
Subject: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$",
        description="the name of a user or token: up to 64 letters, digits, '.', '_', '@' and '-'",
    ),
]
UserName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$",
        description="a user's name: up to 64 lower-case letters, digits, '.', '_', '@' and '-'",
    ),
]
GrantedProject: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?:\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,99})$", description="a project's name, or * for all projects"
    ),
]
RegistryHost: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9.\[\]:-]{1,255}$", description="a registry: HOST or HOST:PORT")
]
