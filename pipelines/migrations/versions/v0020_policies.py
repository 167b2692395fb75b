"""Which runs a secret is for. What projects' settings said of it, in a list for each kind of event, its policy says.

So every secret stays what it was: for whoever names it in a run by hand, and in what they send; and for the pushes,
tags and pull requests of a project whose list had its name. Only secrets that are stored from now on, and say nothing,
are for protected branches and tags alone. A log-in that a project was given stays for all its runs, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0020"
down_revision = "0019"

_LISTS = {"push_secrets": ("push", "cron"), "tag_secrets": ("tag",), "pull_request_secrets": ("pull_request",)}
_ORDER = ("push", "tag", "pull_request", "manual", "cron", "sent")
_ALWAYS = ("manual", "sent")


def upgrade() -> None:
    for name in ("secrets", "grants"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("policy", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT name, hook FROM projects")).all()
    hooks = {row.name: json.loads(row.hook) for row in rows}
    for project, name in _keys(connection, "SELECT project, name FROM secrets WHERE project <> ''"):
        _set(connection, "secrets", project, name, _events(hooks.get(project, {}), name))
    own = set(_keys(connection, "SELECT project, name FROM secrets WHERE project <> ''"))
    given = _keys(connection, "SELECT project, name FROM grants WHERE kind = 'secret' ORDER BY project, name")
    for project, name in given:
        _set(connection, "grants", project, name, _events(hooks.get(project, {}), name))
    for project, name in given:
        if project == "*":
            _give_by_name(connection, name, hooks, {*own, *given})
    for project, name in _keys(connection, "SELECT project, name FROM grants WHERE kind = 'login'"):
        _set(connection, "logins", project, name, _ORDER)
    for project, hook in hooks.items():
        left = {member: value for member, value in hook.items() if member not in _LISTS}
        if left != hook:
            values = {"name": project, "hook": json.dumps(left)}
            connection.execute(sa.text("UPDATE projects SET hook = :hook WHERE name = :name"), values)


def _give_by_name(
    connection: Connection, secret: str, hooks: Mapping[str, dict[str, Any]], has: set[tuple[str, str]]
) -> None:
    """What all projects were given, one whose lists name it gets by its name, too, for just these events."""
    for project, hook in hooks.items():
        events = _events(hook, secret)
        if events != _ALWAYS and (project, secret) not in has:
            row = {"project": project, "name": secret, "no": False, "policy": _policy(events)}
            insert = "INSERT INTO grants (project, kind, name, may_push, policy)"
            connection.execute(sa.text(f"{insert} VALUES (:project, 'secret', :name, :no, :policy)"), row)


def _events(hook: Mapping[str, Any], secret: str) -> Sequence[str]:
    named = {event for member, events in _LISTS.items() if secret in hook.get(member, ()) for event in events}
    return tuple(event for event in _ORDER if event in named or event in _ALWAYS)


def _policy(events: Sequence[str]) -> str:
    return json.dumps({"branches": ["**"], "events": list(events)})


def _keys(connection: Connection, query: str) -> list[tuple[str, str]]:
    return [(row.project, row.name) for row in connection.execute(sa.text(query))]


def _set(connection: Connection, table: str, project: str, name: str, events: Sequence[str]) -> None:
    query = {
        "secrets": "UPDATE secrets SET policy = :policy WHERE project = :project AND name = :name",
        "grants": "UPDATE grants SET policy = :policy WHERE project = :project AND name = :name AND kind = 'secret'",
        "logins": "UPDATE grants SET policy = :policy WHERE project = :project AND name = :name AND kind = 'login'",
    }[table]
    connection.execute(sa.text(query), {"project": project, "name": name, "policy": _policy(events)})
