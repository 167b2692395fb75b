"""``shiplap project hook``: the group and its commands, which are small."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from cli.errors import CommandError
from cli.options import json_option
from cli.places import Group
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import require_private, required_server
from cli.table import age, print_json, print_table


@click.group("hook", cls=Group)
def command() -> None:
    """Manage a project's webhook: secret, deliveries, approvals."""


@command.command("secret")
@click.argument("project")
@click.option("--stdin", is_flag=True, help="Take the secret that the forge has from standard input.")
@click.pass_obj
def secret(root: str | None, *, project: str, stdin: bool) -> None:
    """Give the webhook another secret, and print it: it is shown only now."""
    server = required_server(host_option(), root)
    require_private(server, "a secret")
    body = {"secret": sys.stdin.readline().rstrip("\r\n")} if stdin else {}
    with Client(server) as client:
        webhook = client.call("POST", f"/projects/{segment(project)}/webhook", body)
    click.echo(f"URL      {webhook['url']}")
    if not stdin:
        click.echo(f"secret   {webhook['secret']}")


@command.command("token")
@click.argument("project")
@click.option("--rm", "forget", is_flag=True, help="Forget it: no statuses are reported any more.")
@click.pass_obj
def token(root: str | None, *, project: str, forget: bool) -> None:
    """Store the token with which commits are marked at the forge, from standard input."""
    server = required_server(host_option(), root)
    text = ""
    if not forget:
        require_private(server, "a token")
        asked = sys.stdin.isatty()
        text = str(click.prompt("Token", hide_input=True, err=True)) if asked else sys.stdin.readline().strip()
        if not text:
            raise CommandError("no token came on standard input", hint="--rm forgets the one that there is")
    with Client(server) as client:
        client.call("PUT", f"/projects/{segment(project)}/status-token", {"token": text})


@command.command("script")
def script() -> None:
    """Print the post-receive hook of a bare repository, which says what it needs."""
    from pipelines.bare.making import HOOK

    click.echo(HOOK, nl=False)


@command.command("ls")
@click.argument("project")
@click.option("-n", "--last", type=click.IntRange(1, 300), default=20, help="How many.  [default: 20]")
@json_option
@click.pass_obj
def ls(root: str | None, *, project: str, last: int, as_json: bool) -> None:
    """List what the forge sent, the newest first."""
    with Client(required_server(host_option(), root)) as client:
        answer = client.call("GET", f"/projects/{segment(project)}/deliveries", query={"limit": str(last)})
    deliveries: list[dict[str, Any]] = answer["deliveries"]
    if as_json:
        print_json(deliveries)
        return
    now = time.time()
    rows = [
        (
            str(one["id"]), one["event"], one["outcome"], str(one["status"]),
            age(max(0.0, now - one["received_at"])), one["reason"],
        )
        for one in deliveries
    ]  # fmt: skip
    print_table(("DELIVERY", "EVENT", "OUTCOME", "STATUS", "CAME", "WHAT"), rows)


@command.command("show")
@click.argument("project")
@click.argument("delivery", type=click.IntRange(1))
@click.pass_obj
def show(root: str | None, *, project: str, delivery: int) -> None:
    """Show a delivery with its headers and body, as JSON."""
    with Client(required_server(host_option(), root)) as client:
        print_json(client.call("GET", f"/projects/{segment(project)}/deliveries/{delivery}"))


@command.command("redeliver")
@click.argument("project")
@click.argument("delivery", type=click.IntRange(1))
@click.pass_obj
def redeliver(root: str | None, *, project: str, delivery: int) -> None:
    """Act on a delivery once more, by the settings of now."""
    with Client(required_server(host_option(), root)) as client:
        made = client.call("POST", f"/projects/{segment(project)}/deliveries/{delivery}/redeliver")
    click.echo(f"{made['outcome']}: {made['reason']}")


@command.command("approvals")
@click.argument("project")
@json_option
@click.pass_obj
def approvals(root: str | None, *, project: str, as_json: bool) -> None:
    """List the commits of forks that wait for approval."""
    with Client(required_server(host_option(), root)) as client:
        answer = client.call("GET", f"/projects/{segment(project)}/approvals", query={"state": "waiting"})
    waiting: list[dict[str, Any]] = answer["approvals"]
    if as_json:
        print_json(waiting)
        return
    rows = [
        (str(one["id"]), str(one["pull_request"]), one["commit"], one["trigger"].get("by", ""),
         one["trigger"].get("title", ""))
        for one in waiting
    ]  # fmt: skip
    print_table(("APPROVAL", "PULL REQUEST", "COMMIT", "BY", "TITLE"), rows)


@command.command("approve")
@click.argument("project")
@click.argument("approval", type=click.IntRange(1))
@click.argument("commit")
@click.option("--reject", is_flag=True, help="Never build it.")
@click.pass_obj
def approve(root: str | None, *, project: str, approval: int, commit: str, reject: bool) -> None:
    """Build a commit of a fork, once you have looked at it.

    APPROVAL and COMMIT are as 'approvals' lists them; the first 12 digits of the commit will do. If the pull request
    has another commit by now, nothing is built.
    """
    what = "reject" if reject else "approve"
    with Client(required_server(host_option(), root)) as client:
        run = client.call(
            "POST", f"/projects/{segment(project)}/approvals/{approval}/{what}", {"commit": commit.lower()}
        )
    if run is not None:
        click.echo(run["number"])
