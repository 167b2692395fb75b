"""In the machine: runs the commands that come by its port, one a line of JSON, and answers with code and output.

It knows nothing of Shiplap, and needs nothing but Debian's Python.
"""

import json
import subprocess

with open("/dev/virtio-ports/commands", "r+b", buffering=0) as port:
    rest = b""
    port.write(b'{"ready": true}\n')
    while True:
        rest += port.read(65536)
        *lines, rest = rest.split(b"\n")
        for line in lines:
            asked = json.loads(line)
            try:
                done = subprocess.run(
                    ["/bin/bash", "-c", asked["command"]],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=asked["timeout_s"],
                    check=False,
                    cwd="/root",
                )
                code, said = done.returncode, done.stdout
            except subprocess.TimeoutExpired as error:
                code, said = 124, error.stdout or b""
            answer = {"number": asked["number"], "code": code, "said": said.decode(errors="backslashreplace")}
            port.write(json.dumps(answer).encode() + b"\n")
