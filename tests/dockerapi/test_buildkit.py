"""``docker build`` by docker's default builder, buildx and compose: BuildKit's protocol over Shiplap's builder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.host import processes_with
from tests.toolkit.registries import debian_registry
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

_DOCKERFILE = f"""
FROM {BUSYBOX_NAME} AS base
ARG WHO=nobody
RUN echo made for $WHO; echo $WHO >/who
FROM base
COPY . /files
RUN --network=none find /files
LABEL in=file
CMD ["cat", "/who", "/files/file"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    (tmp_path / "file").write_text("of the context\n")
    (tmp_path / "deep").mkdir(mode=0o750)
    (tmp_path / "deep" / "ü x").write_text("1")
    (tmp_path / "deep" / "link").symlink_to("../file")
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / ".dockerignore").write_text("secret\n")
    return tmp_path


def _build(api: Api, *words: str | Path, **options: object) -> tuple[int, str, str]:
    ran = api.docker("build", "--progress", "plain", *words, **options)  # type: ignore[arg-type]
    return ran.returncode, ran.stdout, ran.stderr


def test_docker_build_is_itself(api: Api, context: Path) -> None:
    words = ("--build-arg", "WHO=ana", "--label", "more=x", "--iidfile", context.parent / "iid")
    code, _, err = _build(api, context, "-t", "kit:1", *words)
    assert code == 0, err + api.log()
    assert "made for ana" in err
    assert "/files/deep/link" in err
    assert "/files/secret" not in err
    assert "load build context" in err
    assert api.docker("run", "--rm", "kit:1").stdout == "ana\nof the context\n"
    shown = json.loads(api.docker("inspect", "--type", "image", "kit:1").stdout)[0]
    assert shown["Config"]["Labels"] == {"in": "file", "more": "x"}
    assert (context.parent / "iid").read_text() == shown["Id"]
    quiet = api.docker("build", "-q", "-t", "kit:2", "--target", "base", "--build-arg", "WHO=ana", context)
    assert quiet.stdout.startswith("sha256:"), quiet.stderr
    code, _, err = _build(api, context, "-t", "kit:1", *words)
    assert err.count("CACHED") >= 3, err


def test_what_fails_is_told_with_its_output(api: Api, context: Path) -> None:
    for text, told in (
        (f"FROM {BUSYBOX_NAME}\nRUN echo before; exit 3\n", "before"),
        ("FRM x\n", "FRM"),
        (f"FROM {BUSYBOX_NAME}\nCOPY nothing /\n", "nothing"),
        (f"FROM {BUSYBOX_NAME}\nRUN --mount=type=secret,id=no,required cat /run/secrets/no\n", "no"),
    ):
        (context / "Dockerfile").write_text(text)
        code, _, err = _build(api, context, "-t", "kit:never")
        assert code == 1
        assert told in err, err
        assert "ERROR" in err
    os.remove(context / "Dockerfile")
    assert "Dockerfile" in _build(api, context)[2]
    assert api.docker("images", "-q", "kit:never").stdout == ""


@pytest.mark.parametrize("words", [["--network", "host"], ["--shm-size", "1g"], ["--allow", "security.insecure"]])
def test_what_is_not_done_is_refused_by_name(api: Api, context: Path, words: list[str]) -> None:
    code, _, err = _build(api, context, *words)
    assert code == 1
    assert "done" in err or "not given" in err, err


def test_secrets_agents_and_named_contexts(api: Api, context: Path) -> None:
    other = context.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "thing").write_text("of the other\n")
    key = context.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()[1]
    (context / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN --mount=type=secret,id=word cat /run/secrets/word\n"
        "COPY --from=lib thing /thing\nRUN cat /thing\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo an agent\n"
    )
    (context.parent / "word").write_text("open sesame")
    words = ("--secret", f"id=word,src={context.parent / 'word'}", "--build-context", f"lib={other}")
    code, _, err = _build(api, context, *words, "--ssh", f"default={key}")
    assert code == 0, err + api.log()
    assert "of the other" in err
    assert "an agent" in err
    assert public not in err


def test_outputs_come_to_the_client(api: Api, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file deep /to/\n")
    out = context.parent / "out"
    code, _, err = _build(api, context, "-o", out)
    assert code == 0, err + api.log()
    assert (out / "to" / "file").read_text() == "of the context\n"
    assert os.readlink(out / "to" / "link") == "../file"
    code, _, err = _build(api, context, "-o", f"type=tar,dest={out / 'made.tar'}")
    assert code == 0, err
    with tarfile.open(out / "made.tar") as made:
        assert "to/ü x" in made.getnames()


def test_images_of_several_platforms_with_attestations_come_as_a_layout(api: Api, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    made = context.parent / "made.tar"
    words = ("--platform", "linux/arm64,linux/amd64", "--provenance=mode=max", "--sbom=true")
    code, _, err = _build(api, context, *words, "-t", "kit:many", "-o", f"type=oci,dest={made}")
    assert code == 0, err + api.log()
    with tarfile.open(made) as layout:
        index = json.load(layout.extractfile("index.json"))  # type: ignore[arg-type]
        digest = index["manifests"][0]["digest"].partition(":")[2]
        manifests = json.load(layout.extractfile(f"blobs/sha256/{digest}"))["manifests"]  # type: ignore[arg-type]
    platforms = [each["platform"]["architecture"] for each in manifests]
    assert platforms == ["arm64", "amd64", "unknown", "unknown"]


def test_a_build_pushes_with_its_clients_credentials_and_leaves_a_cache(
    api: Api, context: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        name, cache = f"{registry.host}/kit/app:1", f"type=registry,ref={registry.host}/kit/cache"
        (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN date +%N >/made\n")
        code, _, err = _build(api, context, "-t", name, "--push", "--cache-to", f"{cache},mode=max")
        assert code == 0, err + api.log()
        made = api.docker("run", "--rm", name, "cat", "/made").stdout
        api.docker("rmi", name, check=True)
        api.docker("builder", "prune", "-af", check=True)
        assert api.docker("run", "--rm", name, "cat", "/made").stdout == made
        api.docker("rmi", name, check=True)
        api.docker("system", "prune", "-f", check=True)
        code, _, err = _build(api, context, "-t", name, "--cache-from", cache)
        assert code == 0, err
        assert api.docker("run", "--rm", name, "cat", "/made").stdout == made


def test_a_context_and_a_dockerfile_on_standard_input(api: Api, context: Path) -> None:
    text = f"FROM {BUSYBOX_NAME}\nRUN echo from stdin\n".encode()
    assert "from stdin" in _build(api, "-", stdin=text)[2]
    assert "from stdin" in _build(api, "-f", "-", context, stdin=text)[2]
    packed = subprocess.run(["tar", "-c", "-C", context, "."], capture_output=True, check=True).stdout
    code, _, err = _build(api, "-t", "kit:tar", "-", stdin=packed)
    assert code == 0, err + api.log()
    assert "/files/deep" in err


def test_compose_builds(api: Api, context: Path) -> None:
    (context / "compose.yaml").write_text("services: {a: {build: ., image: 'kit:a'}, b: {build: ., image: 'kit:b'}}\n")
    ran = subprocess.run(
        ["docker", "compose", "--progress", "plain", "build"],
        cwd=context,
        env=api.environment,
        capture_output=True,
        text=True,
        timeout=stretched(120),
    )
    assert ran.returncode == 0, ran.stderr + api.log()
    assert api.docker("run", "--rm", "kit:b").stdout == "nobody\nof the context\n"


def test_a_build_ends_with_its_client(api: Api, context: Path) -> None:
    mark = f"{os.getpid()}{time.monotonic_ns()}"
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo begun; sleep 1000; : {mark}\n")
    words = ["build", "--progress", "plain", str(context)]
    with api.begin(words, stderr=subprocess.PIPE) as client:
        assert client.stderr is not None
        while not client.stderr.readline().endswith(b" begun\n"):
            assert client.poll() is None, api.log()
        assert processes_with(mark)
        client.kill()
    eventually(lambda: not processes_with(mark))


def test_compose_watches(api: Api, tmp_path: Path) -> None:
    """What is watched is copied into the container that runs, or the image is built anew."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("one")
    dockerfile = f"FROM {BUSYBOX_NAME}\nCOPY src /app\nSTOPSIGNAL KILL\nCMD ['sleep', '1000']\n".replace("'", '"')
    (tmp_path / "Dockerfile").write_text(dockerfile)
    watched = "{action: sync, path: ./src, target: /app}, {action: rebuild, path: ./Dockerfile}"
    (tmp_path / "compose.yaml").write_text(
        f"name: watched\nservices: {{app: {{build: ., develop: {{watch: [{watched}]}}}}}}\n"
    )
    compose = ["docker", "compose", "--ansi", "never", "-f", str(tmp_path / "compose.yaml")]
    subprocess.run([*compose, "up", "-d", "--quiet-pull"], env=api.environment, check=True, capture_output=True)
    with open(tmp_path / "log", "wb") as log:
        watch = subprocess.Popen([*compose, "watch", "--no-up"], env=api.environment, stdout=log, stderr=log)
    try:
        eventually(lambda: "Watch enabled" in (tmp_path / "log").read_text())
        (tmp_path / "src" / "a").write_text("two")
        eventually(lambda: api.docker("exec", "watched-app-1", "cat", "/app/a").stdout == "two", timeout_s=60)
        (tmp_path / "Dockerfile").write_text(f"{dockerfile}ENV X=new\n")
        eventually(lambda: api.docker("exec", "watched-app-1", "sh", "-c", "echo $X").stdout == "new\n", timeout_s=60)
    finally:
        watch.terminate()
        watch.wait(stretched(60))
        subprocess.run([*compose, "down", "-t", "0"], env=api.environment, check=True, capture_output=True)


def test_a_cache_in_a_directory_of_the_clients(api: Api, context: Path) -> None:
    cache = context.parent / "cache of hers ü"
    (context / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN head -c 700000 /dev/urandom >/random\nCOPY file /\nRUN date +%N >/when\n"
    )
    code, _, err = _build(api, context, "-t", "kit:to", "--cache-to", f"type=local,mode=max,dest={cache}")
    assert code == 0, err + api.log()
    first = api.docker("run", "--rm", "kit:to", "cat", "/when").stdout
    index = json.loads((cache / "index.json").read_text())
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]] == ["latest"]
    for blob in (cache / "blobs" / "sha256").iterdir():
        assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()
    api.docker("rmi", "kit:to", check=True)
    api.docker("builder", "prune", "-a", "-f", check=True)
    code, _, err = _build(api, context, "-t", "kit:from", "--cache-from", f"type=local,src={cache}")
    assert code == 0, err + api.log()
    assert err.count("CACHED") >= 3, err + api.log()
    assert api.docker("run", "--rm", "kit:from", "cat", "/when").stdout == first
    blobs = sorted((cache / "blobs" / "sha256").iterdir(), key=lambda each: each.stat().st_size)
    blobs[-1].write_bytes(b"\1" * blobs[-1].stat().st_size)  # the layer of random bytes
    api.docker("rmi", "kit:from", check=True)
    api.docker("builder", "prune", "-a", "-f", check=True)
    code, _, err = _build(api, context, "-t", "kit:from", "--cache-from", f"type=local,src={cache}")
    assert (code, "is broken" in err) == (0, True), err
    (context.parent / "taken").write_text("a file")
    code, _, err = _build(api, context, "--cache-to", f"type=local,dest={context.parent}/taken/in")
    assert code == 1, err
