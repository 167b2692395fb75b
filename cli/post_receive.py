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
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import http.client
import json
import os
import pwd
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CONFIGURATION = "shiplap.conf"
PENDING = "shiplap-pending"
TIMEOUT_S = 10.0
LOCK_S = 15.0
MAX_ANSWER = 65536
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer of somebody else: a push is told to the service that was named, or kept."""

    def redirect_request(self, *_: object) -> None:
        return None


def main() -> None:
    """Keep each line of standard input, then tell all that is kept. git runs this in the repository."""
    settings = read_settings()
    os.makedirs(PENDING, mode=0o700, exist_ok=True)
    for number, line in enumerate(sys.stdin.buffer):
        before, after, ref = line.decode(errors="replace").split(" ", 2)
        keep(delivery(settings, before, after, ref.rstrip("\n")), f"{time.time_ns()}-{number:06}.json")
    reason = tell_kept()
    if reason:
        later = "it will be built when the service answers again"
        if not settings["REPOSITORY"].startswith("file:"):
            later = "it is told with the next push, or by hooks/post-receive </dev/null"
        say(f"Shiplap could not be told ({reason}). The push is kept: {later}.")


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
        "author": pwd.getpwuid(os.getuid()).pw_name,
    }
    body = json.dumps(push)
    signature = hmac.new(settings["HOOK_SECRET"].encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Shiplap-Event": "push",
        "X-Shiplap-Signature": f"sha256={signature}",
        "X-Shiplap-Delivery": f"{after}-{ref}-{time.time_ns()}"[:200],
    }
    return {"url": settings["HOOK_URL"], "headers": headers, "body": body}


def title_of(commit: str) -> str:
    """The first line of a commit's message; empty for a deletion."""
    if not commit.strip("0"):
        return ""
    asked = ["git", "log", "-1", "--format=%s", commit, "--"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode(errors="replace").strip()[:200]


def keep(what: dict[str, object], name: str) -> None:
    """Durable before it is told. Without room for it, it is told at once or never, and that is said."""
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
        say(answer or f"Shiplap could not be told ({reason}), and the push could not be kept ({error}): push again.")


def tell_kept() -> str:
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
            say(answer)
            if os.path.exists(path):
                os.unlink(path)
        return ""
    finally:
        os.close(directory)


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


def tell(what: dict[str, object]) -> tuple[str, str]:
    """The service's own answer, in words; or an empty one, and why there is none."""
    url, headers, body = str(what["url"]), what["headers"], str(what["body"])
    assert isinstance(headers, dict)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return "", f"{url} is no address of a webhook"
    is_near = parts.hostname in LOOPBACK
    opener = urllib.request.build_opener(NoRedirects(), *([urllib.request.ProxyHandler({})] if is_near else []))
    try:
        request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 - the scheme was looked at
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            status, text = answer.status, answer.read(MAX_ANSWER).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read(MAX_ANSWER).decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "", getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    if is_final(status, text):
        return in_words(json.loads(text)), ""
    return "", f"{url} answered {status}"


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
    return "".join(letter if letter.isprintable() else " " for letter in told)


def say(text: str) -> None:
    """To whoever pushes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
