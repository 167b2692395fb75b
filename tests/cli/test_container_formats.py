"""Tables, ``--format`` and Go templates print what docker's command line prints of the same documents."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from cli.containers.inspecting import inspected
from cli.containers.rows import CONTAINERS, container_row, ports_text
from cli.errors import CommandError
from cli.gotemplate import Template, TemplateError, TemplateRunError, TemplateSyntaxError
from cli.listing import aligned
from tests.toolkit.dockercli import FakeDaemon, fake_daemon

_HOUR = 3600


def container(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "Id": f"{number:x}" * 64,
        "Names": [f"/name{number}"],
        "Image": "busybox",
        "ImageID": "sha256:" + "e" * 64,
        "Command": "sh -c 'sleep 1000; echo \"done\"'",
        "Created": int(time.time()) - number * _HOUR,
        "Ports": [],
        "Labels": {},
        "State": "running",
        "Status": f"Up {number} hours",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [],
        **changes,
    }


DOCUMENTS = [
    container(1, Labels={"com.example.two-words": "a b"}, SizeRw=1234, SizeRootFs=5_678_901),
    container(
        2,
        Names=["/a", "/b/alias"],
        Command="sh",
        Ports=[
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 91, "Type": "tcp"},
            {"PrivatePort": 90, "Type": "tcp"},
            {"PrivatePort": 95, "Type": "udp"},
            {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        ],
    ),
    container(
        60,
        Id="f" * 64,
        Image="sha256:" + "e" * 64,
        Status="Exited (3) 2 days ago",
        State="exited",
        Mounts=[{"Type": "volume", "Name": "a-volume-with-a-long-name", "Driver": "local"}, {"Source": "/srv"}],
    ),
    container(4, Image="", Command="", Names=["/ünïcödé"]),
]

FORMS = [
    "",
    "table",
    "json",
    "{{.ID}}",
    "{{.Names}}: {{.Image}}",
    r"{{.ID}}\t{{.Status}}",
    r"table {{.Names}}\t{{.Ports}}\t{{.State}}",
    r"table {{.Names}}\t{{.Label \"com.example.two-words\"}}".replace("\\\"", '"'),
    r"table {{.ID}}\t{{lower .Status}}\t{{upper .Names}}",
    "table {{.Size}}",
    "{{.Size}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}}",
    "{{json .Names}}",
    "{{.CreatedAt}}",
    "{{if eq .State \"exited\"}}{{.Names}}{{else}}-{{end}}",
    "{{range split .Names \",\"}}[{{.}}]{{end}}",
    "{{printf \"%-20s|%q\" .Names .Status}}",
    "{{truncate .Command 5}}{{pad .State 1 2}}|{{title .Status}}",
    "{{with .Ports}}{{.}}{{else}}none{{end}}",
    "{{len .ID}} {{len .Names}}",
    "{{join (split .Status \" \") \"_\"}}",
    "{{and .Ports .Names}} {{or .Ports .Names}} {{not .Ports}}",
    "{{$x := .Names}}{{$x}}{{- /* gone */ -}} {{println .State 1 true}}",
    "table {{.ID}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path_factory.mktemp("docker")) as daemon:
        daemon.answers["GET /containers/json"] = DOCUMENTS
        daemon.answers["GET /containers/it/json"] = INSPECTED
        yield daemon


@pytest.mark.parametrize("no_trunc", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_lines_are_dockers(form: str, no_trunc: bool, docker: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = docker.docker("ps", *(["--format", form] if form else []), *(["--no-trunc"] if no_trunc else []))
    assert theirs.returncode == 0, theirs.stderr
    ours = CONTAINERS.lines((container_row(one, no_trunc=no_trunc) for one in DOCUMENTS), form)
    assert ours == theirs.stdout


def test_quiet_lines_are_dockers(docker: FakeDaemon) -> None:
    assert CONTAINERS.lines(map(container_row, DOCUMENTS), quiet=True) == docker.docker("ps", "-q").stdout


@pytest.mark.parametrize(
    "form", ["{{.Nope}}", "{{.ID", "{{.ID.X}}", "{{nothing}}", "{{if .ID}}", "{{end}}", "{{.ID 1}}"]
)
def test_what_docker_refuses_is_refused_in_its_words(form: str, docker: FakeDaemon) -> None:
    theirs = docker.docker("ps", "--format", form)
    assert theirs.returncode == 1
    with pytest.raises(TemplateError) as caught:
        CONTAINERS.lines(map(container_row, DOCUMENTS), form)
    words = theirs.stderr.strip()
    assert isinstance(caught.value, CommandError | TemplateRunError | TemplateSyntaxError)
    assert caught.value.message.partition(": ")[0] == words.partition(": ")[0]


INSPECTED: dict[str, Any] = {
    "Id": "a" * 64,
    "Created": "2026-11-28T10:27:02.123456789Z",
    "Path": "sh",
    "Args": ["-c", "true"],
    "State": {"Status": "exited", "Running": False, "ExitCode": 3, "Pid": 0, "Error": ""},
    "Name": "/web",
    "RestartCount": 2,
    "Config": {
        "Env": ["A=1", "B=2"],
        "Labels": {"a": "b", "c.d": "e"},
        "Cmd": ["sh", "-c", "true"],
        "Image": "busybox",
        "Tty": False,
        "Hostname": "h",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": None,
    },
    "HostConfig": {
        "Memory": 536870912,
        "Binds": ["a:/b"],
        "NanoCpus": 0,
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Ulimits": [{"Name": "nofile", "Hard": 100, "Soft": 50}],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 10}],
    },
    "GraphDriver": {"Data": {"LowerDir": "/x"}, "Name": "overlay2"},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None},
        "Networks": {"bridge": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1"}},
    },
    "Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b", "RW": True}],
}

TEMPLATES = [
    "{{.Name}}",
    "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}",
    "{{json .State.Status}} {{json .Config.Labels}} {{json .Args}}",
    "{{range .Config.Env}}{{println .}}{{end}}",
    "{{range $name, $value := .Config.Labels}}{{$name}}={{$value}} {{end}}",
    '{{index .Config.Labels "c.d"}}|{{index .Config.Labels "nothing"}}|{{.Config.Labels.a}}',
    "{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{with $conf}}{{(index . 0).HostPort}}{{end}} {{end}}",
    '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}',
    "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    "{{.NetworkSettings.Networks.bridge.Gateway}}",
    "{{range .Mounts}}{{.Source}}:{{.Destination}}{{if .RW}} rw{{end}}{{end}}",
    '{{join .Args " "}} {{len .Args}} {{index .Args 0}}',
    "{{.Args}} {{.Config.Labels}}",
    "{{if and (eq .State.ExitCode 3) (not .State.Running)}}failed{{end}}",
    "{{if eq .State.Status `dead` `exited`}}over{{else if .State.Running}}up{{else}}?{{end}}",
    "{{gt .RestartCount 1}} {{le .RestartCount 2}} {{ne .Name `/x`}}",
    "{{printf `%.3s|%5d|%-5d|%05d|%x|%v` .ID .RestartCount 7 -7 .State.ExitCode .Args}}",
    "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}",
    '{{ .Name | printf "%s-%s" "a" | upper }}',
    "{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}",
    "{{range .Config.Env}}{{if eq . `B=2`}}{{break}}{{end}}{{.}}{{end}}",
    "{{range .Config.Env}}{{if eq . `A=1`}}{{continue}}{{end}}{{.}}{{end}}",
    "{{with $n := .Name}}{{slice $n 1}}{{end}} {{$.Path}}",
    "{{html `<a>`}} {{js `'`}} {{urlquery `a b`}} {{print 1 2 `x` 3}}",
    "{{- .Name -}}  x  {{- /* a comment */ -}}  y",
    "{{range .Mounts}}a{{else}}b{{end}} {{split .Name `/`}}",
    "{{.HostConfig.RestartPolicy}} {{json .HostConfig.RestartPolicy}} {{print .HostConfig.LogConfig}}",
    "{{.HostConfig.PortBindings}} {{.HostConfig.Ulimits}} {{.HostConfig.Devices}} {{.HostConfig.BlkioDeviceReadBps}}",
    '{{printf "%+v %v" .HostConfig.RestartPolicy .HostConfig.RestartPolicy}} {{len .HostConfig.RestartPolicy.Name}}',
    "{{.NetworkSettings.Ports}} {{.Mounts}} {{range .Mounts}}{{.}}{{end}} {{.GraphDriver}}",
    "{{.State}} {{.Config}} {{.Config.ExposedPorts}} {{json .Config.ExposedPorts}}",
    "{{1}} {{1.5}} {{`raw`}} {{\"a\\tb\"}} {{'a'}} {{true}} {{0x10}}",
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_inspect_templates_are_dockers(template: str, docker: FakeDaemon) -> None:
    theirs = docker.docker("inspect", "--type", "container", "-f", template, "it")
    assert theirs.returncode == 0, theirs.stderr
    assert inspected(template, INSPECTED) + "\n" == theirs.stdout


@pytest.mark.parametrize(
    "template",
    ["{{.Nope}}", "{{.State.Nope}}", "{{index .Args 9}}", "{{.Name.X}}", "{{eq .Name 1}}"],
)
def test_templates_that_do_not_fit_fail_as_dockers(template: str, docker: FakeDaemon) -> None:
    assert docker.docker("inspect", "--type", "container", "-f", template, "it").returncode == 1
    with pytest.raises(TemplateRunError):
        inspected(template, INSPECTED)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Name", "unclosed action"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{if .Name}}", "unexpected EOF"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{nothing 1}}", 'function "nothing" not defined'),
        ('{{"a}}', "unterminated quoted string"),
        ("{{break}}", "outside {{range}}"),
        ("{{/* a", "unclosed comment"),
    ],
)
def test_what_is_no_template_is_said_in_gos_words(template: str, words: str, docker: FakeDaemon) -> None:
    theirs = docker.docker("inspect", "--type", "container", "-f", template, "it")
    assert (theirs.returncode, words in theirs.stderr) == (64, True), theirs.stderr
    with pytest.raises(TemplateSyntaxError) as caught:
        Template(template)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "template",
    [
        '{{printf "%1000000d" 1}}',
        "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
        "{{if 1}}" * 5000 + "{{end}}" * 5000,
        "{{range 2000000}}{{range 2000000}}{{end}}{{end}}",
        "x" * 100_000,
        "{{" + "9" * 5000 + "}}",
        '{{define "T"}}{{template "T"}}{{end}}',
    ],
)
def test_a_template_cannot_take_more_than_it_may(template: str) -> None:
    with pytest.raises(TemplateError):
        Template(template).run({})


def test_a_column_ends_where_a_line_lacks_it() -> None:
    assert aligned("a\tb\nccccccccccccc\td\n\nx\ty\n") == "a               b\nccccccccccccc   d\n\nx         y\n"


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    row = container_row(container(1, Names=["/\x1b]0;evil\x07x"]))
    assert CONTAINERS.lines([row], "{{.Names}}") == "x\n"


def test_ports_of_nothing() -> None:
    assert ports_text([]) == ""
