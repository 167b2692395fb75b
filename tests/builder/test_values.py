"""Small languages inside instructions and options: ports, signals, outputs, Go's text."""

import pytest

from builder.errors import InstructionError, OutputError
from builder.exporting.options import parse_output
from builder.frontend.ports import parse_port
from builder.frontend.stopsignal import check_signal
from builder.request.request import Output
from core import gotext
from core.references import Reference

APP = Reference.parse("app:latest")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("1-3/sctp", ["1/sctp", "2/sctp", "3/sctp"]),
        ("65535", ["65535/tcp"]),
        ("127.0.0.1:8080:80/udp", ["80/udp"]),
        (":80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("[::1]:80-81:90-91/udp", ["90/udp", "91/udp"]),
        ("8000-8009:80", ["80/tcp"]),
    ],
)
def test_port(text: str, ports: list[str]) -> None:
    assert parse_port(text) == ports


@pytest.mark.parametrize(
    "text", ["", "x", "80/tcp/udp", "+80", "80-", "90-80", "65536", "80/icmp", "x:80", "300.1.1.1::80", "1-2:3-9", ":"]
)
def test_bad_port(text: str) -> None:
    with pytest.raises(InstructionError):
        parse_port(text)


@pytest.mark.parametrize("text", ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1", "64", "200", "-1", "SIGCLD"])
def test_signal(text: str) -> None:
    check_signal(text)


@pytest.mark.parametrize("text", ["", "0", "9 9", "SIGNOPE", "RTMIN+x", "RTMIN+16", "RTMAX-15"])
def test_bad_signal(text: str) -> None:
    with pytest.raises(InstructionError):
        check_signal(text)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("type=oci,dest=x.tar", Output("oci", "x.tar", (APP,))),
        ("type=docker,dest=-", Output("docker", "-", (APP,))),
        ("type=docker", Output("image", "", (APP,))),
        ("type=image,name=other:1", Output("image", "", (Reference.parse("other:1"),))),
        ('type=image,"name=a,b"', Output("image", "", (Reference.parse("a:latest"), Reference.parse("b:latest")))),
        ("type=tar,dest=out.tar", Output("tar", "out.tar")),
        ("some/dir", Output("local", "some/dir")),
        ("-", Output("tar", "-")),
    ],
)
def test_output(text: str, output: Output) -> None:
    assert parse_output(text, names=(APP,)) == output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=oic,dest=x", "did you mean type=oci"),
        ("dest=x", "types: image"),
        ("type=oci", "write type=oci,dest=PATH"),
        ("type=local,dest=-", "use type=tar,dest=-"),
        ("type=tar,dest=x,compression=gzip", "unsupported option 'compression'"),
        ("type=image,dest=x", "unsupported option 'dest'"),
        ("type=tar,dest=x,name=y", "unsupported option 'name'"),
        ("type=tar,dest", "is not key=value"),
        ("type=tar,type=tar", "type is given twice"),
        ("", "needs a destination"),
    ],
)
def test_bad_output(text: str, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_output(text)
    assert message in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_720_000_000_000, "1h2m0s"),
        (-5_000_000_000, "-5s"),
    ],
)
def test_go_duration(nanoseconds: int, text: str) -> None:
    assert gotext.duration(nanoseconds) == text


def test_go_quotes() -> None:
    assert gotext.quote('a"b\\\n\x01é\u200b') == '"a\\"b\\\\\\n\\x01é\\u200b"'
    assert gotext.quote_list(["a", 'b "c"']) == '["a" "b \\"c\\""]'
    assert gotext.quote_rune(0) == "'\\x00'"
    assert gotext.quote_rune(5) == "'\\x05'"
