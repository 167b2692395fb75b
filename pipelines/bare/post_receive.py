#!/usr/bin/env python3
"""The post-receive hook of a bare repository: tells Shiplap what was pushed, and keeps what it could not tell.

It runs by itself, with Python 3.7 or newer and git, on whatever host has the repository; ``shiplap project add --bare``
installs it, ``shiplap project hook script`` prints it. Beside it, in shiplap.conf:

    HOOK_URL='…'       the webhook's address and
    HOOK_SECRET='…'    its secret, as shiplap project add printed them
    REPOSITORY='…'     the URL that the project was given

A push is kept in shiplap-pending/ before it is told, and removed when the service has answered. What stays there is
told with the next push, in order, and by ``hooks/post-receive </dev/null``; the service itself takes it from
repositories below its ROOT/git. It knows a delivery by its id: one that it has had starts nothing.

``git push -o follow`` shows the log of what is built until it has ended. Whoever goes away ends nothing by that.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import io
import json
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

CONFIGURATION, PENDING = "shiplap.conf", "shiplap-pending"
LINES_OF_A_JOB = 10**9  # of a pipeline, a line's number is this times its job's, and its own
TIMEOUT_S, LOCK_S = 10.0, 15.0
MAX_ANSWER = 65536
MAX_HEADERS = 100
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOLD_AFTER_S = 3.0  # for so long a service may be away before anything is said of it
SILENCE_S = 10.0 + TOLD_AFTER_S  # a heartbeat comes every ten seconds
AWAY_S = 60.0  # a restart and an upgrade take less
ANSWER_S = 10.0  # until an answer begins, once it has been said that the service is away
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


class Answer:
    """What a service answers, as a context manager. body: to be read or iterated over; connection: its socket."""

    def __init__(self, status: int, body: io.BufferedIOBase, connection: socket.socket) -> None:
        self.status = status
        self.body = body
        self.connection = connection

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.body.close()
        self.connection.close()


def main() -> None:
    """Keep each line of standard input, then tell all that is kept. git runs this in the repository."""
    settings = read_settings()
    os.makedirs(PENDING, mode=0o700, exist_ok=True)
    pushes = []
    answers: dict[str, dict[str, object]] = {}
    for number, line in enumerate(sys.stdin.buffer):
        before, after, ref = line.decode(errors="replace").split(" ", 2)
        what = delivery(settings, before, after, ref.rstrip("\n"))
        if keep(what, f"{time.time_ns()}-{number:06}.json", answers):
            pushes.append(what)
    reason = tell_kept(answers)
    for what in pushes:
        if not reason and id_of(what) not in answers:  # somebody else told it, and its answer is for us
            answer, reason = tell(what)
            note(what, answer, answers)
    if reason:
        later = "it will be built when the service answers again"
        if not settings["REPOSITORY"].startswith("file:"):
            later = "it is told with the next push, or by hooks/post-receive </dev/null"
        say(f"Shiplap could not be told ({reason}). The push is kept: {later}.")
    if "follow" in push_options():
        follow_all(settings, answers)


def push_options() -> list[str]:
    """What was given as ``git push -o …``."""
    count = os.environ.get("GIT_PUSH_OPTION_COUNT", "")
    return [os.environ.get(f"GIT_PUSH_OPTION_{number}", "") for number in range(int(count) if count.isdigit() else 0)]


def read_settings() -> dict[str, str]:
    """NAME='value' in each line, as a shell reads it."""
    with open(CONFIGURATION, encoding="utf-8") as file:
        return dict(word.split("=", 1) for word in shlex.split(file.read(), comments=True))


def delivery(settings: dict[str, str], before: str, after: str, ref: str) -> dict[str, object]:
    """What is to be told of one ref. The body is text, for it is what was signed."""
    push = {
        "repository": settings["REPOSITORY"],
        "ref": ref,
        "before": before,
        "after": after,
        "title": title_of(after),
        "author": os.environ.get("SHIPLAP_PUSHER") or user_name(),
        "default_branch": default_branch(),
    }
    body = json.dumps(push)
    number = hashlib.sha256(f"{after} {ref} {time.time_ns()}".encode(errors="replace")).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Shiplap-Event": "push",
        "X-Shiplap-Signature": signature(settings, body),
        "X-Shiplap-Delivery": number,  # a ref may have letters that no header can have
    }
    return {"url": settings["HOOK_URL"], "headers": headers, "body": body}


def signature(settings: dict[str, str], body: str) -> str:
    """By which the service knows that it comes from this repository."""
    return "sha256=" + hmac.new(settings["HOOK_SECRET"].encode(), body.encode(), hashlib.sha256).hexdigest()


def id_of(what: dict[str, object]) -> str:
    """Of a delivery."""
    headers = what["headers"]
    assert isinstance(headers, dict)
    return str(headers.get("X-Shiplap-Delivery"))


def user_name() -> str:
    """Who runs this; a number where nobody has given it a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def title_of(commit: str) -> str:
    """The first line of a commit's message; empty for a deletion."""
    if not commit.strip("0"):
        return ""
    asked = ["git", "log", "-1", "--format=%s", commit, "--"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode(errors="replace").strip()[:200]


def default_branch() -> str:
    """The repository's; empty where it does not say so in the usual way. The service then asks for it."""
    try:
        with open("HEAD", encoding="utf-8", errors="replace") as file:
            found = re.fullmatch(r"ref: refs/heads/(\S{1,200})\s*", file.read(MAX_ANSWER))
    except OSError:
        return ""
    return found[1] if found and found[1] != ".invalid" else ""


def keep(what: dict[str, object], name: str, answers: dict[str, dict[str, object]]) -> bool:
    """Durable before it is told. False: without room for it, it was told at once or never, and that is said."""
    try:
        aside = f"{PENDING}/.{name}"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(what, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, f"{PENDING}/{name}")
        directory = os.open(PENDING, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    except OSError as error:
        answer, reason = tell(what)
        note(what, answer, answers)
        if not answer:
            say(f"Shiplap could not be told ({reason}), and the push could not be kept ({error}): push again.")
        return False
    return True


def tell_kept(answers: dict[str, dict[str, object]]) -> str:
    """The oldest first; why it ended before all were told, empty when they are."""
    directory = os.open(PENDING, os.O_RDONLY)
    try:
        if not lock(directory):
            return "another push is being told"
        for name in sorted(name for name in os.listdir(directory) if name.endswith(".json") and name[0] != "."):
            path = f"{PENDING}/{name}"
            try:
                with open(path, encoding="utf-8") as file:
                    what = json.load(file)
            except FileNotFoundError:  # the service took it
                continue
            answer, reason = tell(what)
            if not answer:
                return reason
            note(what, answer, answers)
            if os.path.exists(path):
                os.unlink(path)
        return ""
    finally:
        os.close(directory)


def note(what: dict[str, object], answer: dict[str, object], answers: dict[str, dict[str, object]]) -> None:
    """Say what became of a delivery, if anything has."""
    if answer:
        answers[id_of(what)] = answer
        say(in_words(answer))


def lock(directory: int) -> bool:
    """One at a time tells, so that older pushes go before newer ones; False: it takes too long."""
    end = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        else:
            return True


def tell(what: dict[str, object]) -> tuple[dict[str, object], str]:
    """The service's own answer; or an empty one, and why there is none."""
    url, headers, body = str(what["url"]), what["headers"], str(what["body"])
    assert isinstance(headers, dict)
    try:
        with send(url, headers, body, TIMEOUT_S) as answer:
            status, text = answer.status, answer.body.read(MAX_ANSWER).decode(errors="replace")
    except (OSError, ValueError, *http_errors()) as error:  # type: ignore[misc]  # mypy knows no tuples of these
        return {}, why(error)
    if is_final(status, text):
        return dict(json.loads(text)), ""
    return {}, f"{url} answered {status}"


def send(url: str, headers: dict[str, str], body: str, timeout_s: float) -> Answer:
    """The answer to a POST. Raises OSError, ValueError, and ``http_errors``.

    A redirect is an answer of somebody else: a push is told to the service that was named, or kept.
    """
    near = re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::(\d+))?(/[!-~]*)", url)
    if near:
        return send_near(near[1].strip("[]"), int(near[2] or 80), near[3], headers, body, timeout_s)
    return send_far(url, headers, body, timeout_s)


def send_near(host: str, port: int, path: str, headers: dict[str, str], body: str, timeout_s: float) -> Answer:
    """To this machine, without the modules for all of HTTP: to load them takes longer than the service to answer."""
    data = body.encode()
    connection = socket.create_connection((host, port), timeout_s)
    try:
        lines = [f"POST {path} HTTP/1.0", f"Host: {host}:{port}", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        stream = connection.makefile("rb")
        first = stream.readline(MAX_ANSWER)
        if not first:
            raise ConnectionResetError("it ended the connection")
        found = re.match(rb"HTTP/1\.\d (\d{3})\b", first)
        if not found:
            raise ValueError(f"http://{host}:{port} does not speak HTTP")
        for _ in range(MAX_HEADERS):
            if stream.readline(MAX_ANSWER) in (b"\r\n", b"\n", b""):
                return Answer(int(found[1]), stream, connection)
        raise ValueError(f"http://{host}:{port} answers with more than {MAX_HEADERS} headers")
    except BaseException:
        connection.close()
        raise


def send_far(url: str, headers: dict[str, str], body: str, timeout_s: float) -> Answer:
    """To another machine, by the proxy that there may be."""
    import http.client
    import ssl
    import urllib.error
    import urllib.parse
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url} is no address of a webhook")
    handlers: list[urllib.request.BaseHandler] = [NoRedirects()]
    if parts.scheme == "https":
        # As git and curl judge certificates: Python 3.13 refuses a CA without keyUsage, as openssl req -x509 makes it.
        context = ssl.create_default_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        handlers.append(urllib.request.HTTPSHandler(context=context))
    if parts.hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 - the scheme was looked at
    try:
        answer = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        refused = io.BytesIO(error.read(MAX_ANSWER))
        error.close()
        return Answer(error.code, refused, socket.socket())
    assert isinstance(answer, http.client.HTTPResponse)
    return Answer(answer.status, answer, answer.fp.raw._sock)  # type: ignore[attr-defined]  # the socket below the file


def http_errors() -> tuple[type[Exception], ...]:
    """What ``send_far`` may raise that is no OSError, once it was called."""
    if "http.client" not in sys.modules:
        return ()
    import http.client

    return (http.client.HTTPException,)


def why(error: BaseException) -> str:
    """Of an error of ``send``'s, for people."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def is_final(status: int, text: str) -> bool:
    """Whether the service itself has taken or refused it: a proxy before a service that is down answers, too."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    if not isinstance(answer, dict):
        return False
    return "outcome" in answer if status < 300 else "error" in answer and status in (400, 401, 403, 411, 413)


def in_words(answer: dict[str, object]) -> str:
    """What became of a push: where its runs are to be seen, or why there are none."""
    error, links, reason = answer.get("error"), answer.get("links"), answer.get("reason")
    if "outcome" not in answer:
        message = error.get("message") if isinstance(error, dict) else error
        told = f"Shiplap refused the push: {message or 'it gave no reason'}"
    elif isinstance(links, list) and links:
        told = "Shiplap builds it: " + " ".join(map(str, links))
    elif answer["outcome"] == "queued":
        told = f"Shiplap builds it: {reason or 'it is in the queue'}"
    else:
        told = f"Shiplap builds nothing: {reason or answer['outcome']}"
    return printable(told)


def follow_all(settings: dict[str, str], answers: dict[str, dict[str, object]]) -> None:
    """Show the logs of all runs that were started, one after the other."""
    for number in (signal.SIGINT, signal.SIGPIPE):  # whoever pushed has gone: so do we, without a word
        signal.signal(number, signal.SIG_DFL)
    descriptor = os.environ.get("SHIPLAP_FOLLOWING")
    if descriptor:  # the service's, which gave a push that it serves a deadline
        os.write(int(descriptor), b"f")
    for delivery_id, answer in answers.items():
        runs = answer.get("runs")
        for run in runs if isinstance(runs, list) else []:
            reason = follow(settings, delivery_id, run)
            if reason:
                say(f"Shiplap does not show run {run} any more ({reason}). It goes on.")


class Absence:
    """How long the service has been away while a run is followed, and what is said of it."""

    def __init__(self, run: object) -> None:
        self.run = run
        self.is_told = False
        self.since = 0.0  # by the monotonic clock; 0: it is there
        self.pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        """Seconds until something is to be said, or it is given up."""
        gone_s = time.monotonic() - self.since if self.since else 0.0
        return max(FIRST_PAUSE_S, (AWAY_S if self.is_told else TOLD_AFTER_S) - gone_s)

    def answered(self) -> None:
        """It has begun to answer, which is no proof that it has the log."""
        if self.is_told:
            say(f"Shiplap answers again. Run {self.run} goes on:")
        self.is_told = False

    def end(self) -> None:
        """It has sent something of the log, or said that there is nothing new."""
        self.since, self.pause_s = 0.0, FIRST_PAUSE_S

    def wait(self, reason: str, began: float) -> bool:
        """Before the next try; False: it has been away for too long. began: when, if this is the first try."""
        self.since = self.since or began
        if time.monotonic() - self.since >= AWAY_S:
            return False
        if time.monotonic() - self.since >= TOLD_AFTER_S and not self.is_told:
            self.is_told = True
            say(f"Shiplap is away ({printable(reason)}): trying again for {AWAY_S:.0f} s. Run {self.run} goes on.")
        time.sleep(min(self.pause_s, self.left_s()))
        self.pause_s = min(LONGEST_PAUSE_S, self.pause_s * 2)
        return True


def follow(settings: dict[str, str], delivery_id: str, run: object) -> str:
    """Show a log until the run has ended; why it broke off before, else empty."""
    url = settings["HOOK_URL"].rstrip("/") + "/follow"
    parent, seen, absence = os.getppid(), {0: 0}, Absence(run)  # seen: the last line of each job, 0 is the run's own
    while True:
        asked = {"delivery": delivery_id, "run": run, "after": seen[0]}
        body = json.dumps({**asked, "seen": seen} if len(seen) > 1 else asked)
        headers = {"Content-Type": "application/json", "X-Shiplap-Signature": signature(settings, body)}
        began, lines = time.monotonic(), 0
        try:
            with send(url, headers, body, min(ANSWER_S, absence.left_s())) as answer:
                if 300 <= answer.status < 500:
                    return f"{url} answered {answer.status}"
                if answer.status >= 500:
                    raise ValueError(f"{url} answered {answer.status}")
                answer.connection.settimeout(SILENCE_S)  # an answer has to begin sooner
                for line in answer.body:
                    if os.getppid() != parent:
                        sys.exit()
                    lines += 1
                    absence.answered()
                    if lines > 1:  # the first one comes whether it has the log or not
                        absence.end()
                    kind, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
                    if kind == "end":
                        say(printable(text))
                        return ""
                    if kind.isdigit():
                        job, number = divmod(int(kind), LINES_OF_A_JOB)
                        seen[job] = number
                        say(printable(text))
            reason, began = "it ended the connection", time.monotonic()
        except (OSError, ValueError, *http_errors()) as error:  # type: ignore[misc]
            reason = why(error)
            if lines and isinstance(error, socket.timeout):
                reason, began = f"it has been silent for {SILENCE_S:.0f} s", time.monotonic() - TOLD_AFTER_S
            elif lines:
                began = time.monotonic()
        if os.getppid() != parent:
            sys.exit()
        if not absence.wait(reason, began):
            return reason


def printable(text: str) -> str:
    """Without colours, and without what else a terminal takes for orders."""
    plain = re.sub(r"\x1b\[[0-9;:]*m", "", text).replace("\t", "    ")
    return "".join(letter if letter.isprintable() else " " for letter in plain)


def say(text: str) -> None:
    """To whoever pushes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
