"""A step that gives its output to another one, which holds it."""

from __future__ import annotations

from pathlib import Path

from tests.toolkit.shiplap import DEBIAN_NAME, Shiplap

_SEND = r"""
use Socket;
socket(my $s, PF_UNIX, SOCK_STREAM, 0);
until (connect($s, pack_sockaddr_un("/cache/socket"))) { select(undef, undef, undef, 0.05) }
my $data = "x"; my $vector = pack("PQ", $data, 1);
my $rights = pack("Qiiix4", 20, 1, 1, 1);  # CMSG_LEN, SOL_SOCKET, SCM_RIGHTS, standard output
my $message = pack("QLLPQPQix4", 0, 0, 0, $vector, 1, $rights, 24, 0);
syscall(46, fileno($s), $message, 0) == 1 or die "sendmsg: $!";
print "sent\n";
"""
_HOLD = r"""
use Socket;
socket(my $s, PF_UNIX, SOCK_STREAM, 0);
bind($s, pack_sockaddr_un("/cache/socket")) or die "bind: $!";
listen($s, 1); accept(my $c, $s);
my $data = "\0" x 8; my $vector = pack("PQ", $data, 8); my $rights = "\0" x 64;
my $message = pack("QLLPQPQix4", 0, 0, 0, $vector, 1, $rights, 64, 0);
syscall(47, fileno($c), $message, 0) == 1 or die "recvmsg: $!";
for (1..600) { exit 0 if -e "/cache/done"; select(undef, undef, undef, 0.05) }
die "the sender has not gone on";
"""


def test_step_that_gave_its_output_away_ends_all_the_same(base_store: Shiplap, tmp_path: Path) -> None:
    """The one that holds it waits for the step after: were its end waited for, neither would ever be."""
    (tmp_path / "send").write_text(_SEND)
    (tmp_path / "hold").write_text(_HOLD)
    mounts = "--mount=type=cache,id=passed,target=/cache --mount=type=bind,target=/scripts"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {DEBIAN_NAME} AS holder\nRUN {mounts} perl /scripts/hold && touch /held\n"
        f"FROM {DEBIAN_NAME} AS sender\nRUN {mounts} perl /scripts/send\n"
        f"RUN {mounts} touch /cache/done /gone-on\n"
        "FROM scratch\nCOPY --from=holder /held /\nCOPY --from=sender /gone-on /\n"
    )
    said = base_store("build", "--network", "none", "--progress", "plain", tmp_path)
    assert "sent" in said.stderr
