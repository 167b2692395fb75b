"""A job's container and a service of its, on a segment: what tests of segments begin with."""

from __future__ import annotations

import os

from containers import segment
from containers.handles import Container
from containers.spec import ContainerSpec, ExitStatus, SegmentPlace
from tests.containers.running import Runner

DB, JOB = segment.address_of(2), segment.address_of(1)
HOSTS = (("db", DB), ("job", JOB))
SERVE = "while :; do echo {says} | nc -l -p 7000; done"
ASK = "nc -w 2 db 7000 </dev/null"


class Pair:
    """A segment with a service in it."""

    def __init__(self, run: Runner, *, network: str = "none", says: str = "hello") -> None:
        self.run = run
        self.network = network
        self.fd = run.launcher.segment()
        self.service = self.start("sh", "-c", SERVE.format(says=says))

    def start(self, *args: str) -> Container:
        with open(os.devnull, "r+b") as null:
            fd = null.fileno()
            return self.run.launcher.accompany(self.spec(*args), stdin=fd, stdout=fd, stderr=fd)

    def spec(self, *args: str, address: str = DB) -> ContainerSpec:
        return self._spec(*args, address=address, hostname="db")

    def _spec(self, *args: str, address: str, **fields: object) -> ContainerSpec:
        place = SegmentPlace(self.fd, address)
        return self.run.spec(*args, segment=place, extra_hosts=HOSTS, network=self.network, **fields)

    def ask(self, script: str) -> tuple[ExitStatus, str]:
        """What the job's container says to a script."""
        spec = self._spec("sh", "-c", script, address=JOB)
        said = self.run.folder / f"asked{next(self.run.counter)}"
        with open(os.devnull, "rb") as null, open(said, "wb") as out:
            fd = out.fileno()
            ended = self.run.launcher.start(spec, stdin=null.fileno(), stdout=fd, stderr=fd)
            return ended.wait(), said.read_text()

    def executed(self, *args: str) -> tuple[ExitStatus, str]:
        """What a process says that joined the service."""
        said = self.run.folder / f"said{next(self.run.counter)}"
        with open(os.devnull, "rb") as null, open(said, "wb") as out:
            spec = self.service_spec(*args)
            fd = out.fileno()
            return self.service.execute(spec, stdin=null.fileno(), stdout=fd, stderr=fd).wait(), said.read_text()

    def service_spec(self, *args: str) -> ContainerSpec:
        return ContainerSpec(layers=(), upper=None, args=args, env=(("A", "b"),))

    def close(self) -> None:
        os.close(self.fd)
        self.service.close()
