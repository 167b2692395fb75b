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


_WRITE = "write PORT, FIRST-LAST, PORT/udp or PORT/sctp"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("x", "invalid port 'x'", _WRITE),
        ("80/icmp", "invalid protocol 'icmp' in port '80/icmp'", "tcp, udp or sctp"),
        ("65536", "invalid port range '65536'", "ports go up to 65535, the lower one first"),
        ("2-1", "invalid port range '2-1'", "ports go up to 65535, the lower one first"),
        ("x:1:80", "invalid address 'x' in port 'x:1:80'", _WRITE),
        ("[::1:1:80", "invalid address '[::1' in port '[::1:1:80'", _WRITE),
        ("1-2:3-9", "two ranges of different lengths in port '1-2:3-9'", _WRITE),
        ("70000:80", "invalid port range '70000:80'", "ports go up to 65535, the lower one first"),
    ],
)  # fmt: skip
def test_bad_port_is_told_with_what_is_good(text: str, message: str, hint: str) -> None:
    with pytest.raises(InstructionError) as refused:
        parse_port(text)
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_ranges_of_the_same_length_go_together_and_a_port_takes_any() -> None:
    assert parse_port("8080-8081:80-81") == ["80/tcp", "81/tcp"]
    assert parse_port("1.2.3.4::80") == ["80/tcp"]
    assert parse_port("7:7") == ["7/tcp"]


def test_bad_signal_is_told_with_what_is_good() -> None:
    for text, message, hint in (
        ("0", "invalid signal number 0", "signals go from 1 to 64"),
        ("SIGTREM", "unknown signal 'SIGTREM'", "did you mean SIGTERM?"),
    ):
        with pytest.raises(InstructionError) as refused:
            check_signal(text)
        assert (refused.value.message, refused.value.hint) == (message, hint)
    for text in ("CLD", "IOT", "POLL", "STKFLT", "RTMIN", "RTMIN+15", "RTMAX", "RTMAX-14", "+1"):
        check_signal(text)


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
