"""How full disks were: what several processes of one host write at once."""

from __future__ import annotations

import threading
import time

from sqlalchemy import insert

from pipelines.keeping.diskuse import DiskSample, note_sample, samples
from pipelines.schema import disk_samples
from pipelines.service import Service


def test_two_web_processes_of_a_host_may_measure_at_the_same_moment(service: Service) -> None:
    """And the one that is second goes on: its housekeeping has other work, too."""
    now = 7200.0
    second = threading.Thread(target=note_sample, args=(service.database, "host", DiskSample(now + 1, 5, 5, 0, 0)))
    with service.database.write() as connection:
        values = {"host": "host", "hour": 2, "at": now, "used_bytes": 1, "free_bytes": 1}
        connection.execute(insert(disk_samples).values(**values, registry_bytes=0, outputs_bytes=0))
        second.start()
        time.sleep(0.2)  # it waits for this transaction, or comes after it: both have to go well
    second.join()
    assert len(samples(service.database, "host", 0)) == 1
