"""The web process needs no root, and has nothing loaded that starts containers."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

from core.settings import ServiceSettings
from tests.toolkit.bounds import stretched

_CHECKOUT = Path(__file__).resolve().parents[2]
_NOBODY = 65534
_READING = "dac_read_search"  # the test's Python and directory may be where only root can go; it writes nothing more
_AS_NOBODY = (
    "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs",
    f"--inh-caps=-all,+{_READING}", f"--ambient-caps=-all,+{_READING}", f"--bounding-set=-all,+{_READING}",
)  # fmt: skip
_ANSWERS = {"/readyz": 200, "/login": 200, "/runs": 303, "/v2/": 401, "/static/app.css": 200}
_SERVE = """
import json, sys
from core.settings import ServiceSettings
from web.server import Server
from web.settings import WebSettings
class Probe(Server):
    def load(self):
        application = super().load()
        import os
        loaded = sorted(name for name in sys.modules if name.partition('.')[0] in ('containers', 'worker'))
        print(json.dumps({'uid': os.getuid(), 'loaded': loaded}), flush=True)
        return application
    def _announce(self, arbiter):
        super()._announce(arbiter)
        print(json.dumps({'port': arbiter.LISTENERS[0].sock.getsockname()[1]}), flush=True)
Probe(ServiceSettings.from_environ(), WebSettings.parse('127.0.0.1:0')).run()
"""


def test_pages_are_served_by_a_process_that_is_nobody(settings: ServiceSettings, privileged: None) -> None:
    subprocess.run([sys.executable, "-m", "cli", "--root", settings.root, "migrate"], check=True, cwd=_CHECKOUT)
    for path in (settings.root, *settings.root.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONPATH": str(_CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHIPLAP_ROOT": str(settings.root),
        "SHIPLAP_REDIS_URL": f"unix://{settings.root}/none.sock",
    }
    command = [*_AS_NOBODY, sys.executable, "-c", _SERVE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            told: dict[str, object] = {}
            while len(told) < 3:
                line = process.stdout.readline()
                assert line, "the web process ended"
                if line.startswith("{"):
                    told |= json.loads(line)
            assert told["uid"] == _NOBODY
            assert told["loaded"] == []
            connection = http.client.HTTPConnection("127.0.0.1", int(str(told["port"])), timeout=stretched(30))
            for address, expected in _ANSWERS.items():
                connection.request("GET", address)
                answer = connection.getresponse()
                answer.read()
                assert (address, answer.status) == (address, expected)
            connection.close()
        finally:
            process.terminate()
