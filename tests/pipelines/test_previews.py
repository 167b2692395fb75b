"""Marks of previews: one for each output that wants to be opened, once, with the address of what it opens."""

from __future__ import annotations

import msgspec
import pytest

from ci.ends import Published
from pipelines.model import RunRequest
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from pipelines.statuses.sending import StatusSender
from tests.pipelines.test_hook_statuses import clock, forge, send_all, sender, set_up
from tests.pipelines.test_pipelines import LAYER, SOURCE, TRIGGER, claimed, end, node, pipeline, write
from tests.toolkit.forgeserver import ForgeServer

__all__ = ["clock", "forge", "sender"]
DAY_S = 86_400.0


def planned(service: Service, statuses: str) -> int:
    run = service.runs.submit(RunRequest(SOURCE, "app"), msgspec.structs.replace(TRIGGER, commit="c" * 40))
    write(service, claimed(service), pipeline(node("docs"), node("shots"), node("last"), statuses=statuses))
    return run.number


@pytest.mark.parametrize("statuses", ["run", "jobs"])
def test_a_preview_is_marked_once_and_its_mark_opens_it(
    service: Service, forge: ForgeServer, sender: StatusSender, statuses: str
) -> None:
    set_up(service, forge)
    number = planned(service, statuses)
    site, plain = Published("site", LAYER, 1, 1, DAY_S, True), Published("plain", LAYER, 1, 1, DAY_S)
    end(service, claimed(service), published=(site, plain))
    marked = [row for row in list_statuses(service.database, "app") if row.context == "shiplap/main/site"]
    assert [(row.state, row.description) for row in marked] == [("success", "open site")]
    end(service, claimed(service), "failed", published=(Published("shots", LAYER, 1, 1, DAY_S, True),))
    end(service, claimed(service))
    found = [row.context for row in list_statuses(service.database, "app")]
    assert found.count("shiplap/main/site") == 1, "jobs that end later change nothing of it"
    assert "shiplap/main/plain" not in found
    send_all(sender)
    targets = {call.body["context"]: call.body["target_url"] for call in forge.calls}
    assert targets["shiplap/main/site"] == f"https://ci.example/runs/{number}/jobs/2/outputs/site/open"
    shots = f"https://ci.example/runs/{number}/jobs/3/outputs/shots/open"
    if statuses == "run":
        assert targets["shiplap/main/shots"] == shots
    else:  # a job's own mark of that name stays what it is
        assert targets["shiplap/main/shots"] == f"https://ci.example/runs/{number}?job=3"
        assert targets["shiplap/main/shots preview"] == shots
