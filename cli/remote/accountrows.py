"""What tables and templates can show of who gets in at a service, and of what it keeps for projects: its API's answers.

No list has a secret: the API has none to give.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.listing import Listing, Row
from cli.remote.policies import policy_text
from cli.table import age, rfc3339

TOKENS: Final = Listing(
    {
        "ID": "ID",
        "Name": "NAME",
        "Scopes": "SCOPES",
        "CreatedAt": "CREATED",
        "ExpiresAt": "EXPIRES",
        "LastUsed": "USED",
        "Owner": "OWNER",
    },
    ("ID", "Name", "Scopes", "CreatedAt", "ExpiresAt", "LastUsed"),
    "ID",
    "token",
    least=0,
)

USERS: Final = Listing(
    {
        "Name": "NAME",
        "Role": "ROLE",
        "SignsInBy": "SIGNS IN BY",
        "SignedIn": "SIGNED IN",
        "Disabled": "DISABLED",
    },
    ("Name", "Role", "SignsInBy", "SignedIn"),
    "Name",
    "user",
    least=0,
)

SECRETS: Final = Listing(
    {"Name": "NAME", "StoredAt": "STORED", "For": "FOR"}, ("Name", "StoredAt", "For"), "Name", "secret", least=0
)

GRANTS: Final = Listing(
    {"Project": "PROJECT", "Kind": "KIND", "Name": "NAME", "Rights": "RIGHTS"},
    ("Project", "Kind", "Name", "Rights"),
    "Name",
    "grant",
    least=0,
)

LOGINS: Final = Listing(
    {"Registry": "REGISTRY", "User": "USER", "StoredAt": "STORED"},
    ("Registry", "User", "StoredAt"),
    "Registry",
    "login",
    least=0,
)


def token_row(token: Mapping[str, Any], now: float) -> Row:
    """A token's fields. now: seconds since the epoch."""
    return {
        "ID": str(token["id"]),
        "Name": token["name"],
        "Scopes": ",".join(token["scopes"]),
        "CreatedAt": rfc3339(int(token["created_at"])),
        "ExpiresAt": _expiry(token["expires_at"], now),
        "LastUsed": _since(token["last_used_at"], now),
        "Owner": token.get("owner") or "",
    }


def user_row(user: Mapping[str, Any], now: float) -> Row:
    """A user's fields. now: seconds since the epoch."""
    return {
        "Name": user["name"],
        "Role": user["role"],
        "SignsInBy": _way_in(user),
        "SignedIn": _since(user["signed_in_at"], now),
        "Disabled": "yes" if user["disabled"] else "no",
    }


def secret_row(secret: Mapping[str, Any]) -> Row:
    """A secret's fields."""
    return {
        "Name": secret["name"],
        "StoredAt": rfc3339(int(secret["created_at"])),
        "For": policy_text(secret["policy"]),
    }


def grant_row(grant: Mapping[str, Any]) -> Row:
    """The fields of what a project was given."""
    rights = "pull, push" if grant.get("may_push") else ""
    if not rights and (grant.get("policy") or grant["kind"] == "login"):
        rights = policy_text(grant["policy"])
    return {"Project": grant["project"], "Kind": grant["kind"], "Name": grant["name"], "Rights": rights}


def login_row(login: Mapping[str, Any]) -> Row:
    """The fields of a log-in to a registry elsewhere."""
    return {
        "Registry": login["registry"],
        "User": login["username"],
        "StoredAt": rfc3339(int(login["created_at"])),
    }


def _since(moment: float | None, now: float) -> str:
    return "never" if moment is None else age(max(0.0, now - moment))


def _expiry(expires_at: float | None, now: float) -> str:
    if expires_at is None:
        return "never"
    return "expired" if expires_at <= now else rfc3339(int(expires_at))


def _way_in(user: Mapping[str, Any]) -> str:
    if user["disabled"]:
        return "disabled"
    if user["issuer"]:
        return str(user["issuer"])
    return "password" if user["has_password"] else "a link, not used yet"
