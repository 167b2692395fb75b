"""What each forge sends is verified and understood, and what is to be sent to each has its form."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from pipelines.forges.base import first_line, origin
from pipelines.forges.errors import MissingSignatureError, WebhookError, WrongSignatureError
from pipelines.forges.events import (
    Event,
    Ignored,
    Ping,
    PullRequest,
    PullRequestClosed,
    Push,
    Status,
    StatusState,
    Tag,
)
from pipelines.forges.known import FORGES, detect
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import AFTER, BEFORE, NONE, SECRET, Hook

PUSHES = [
    sent.github_push(),
    sent.gitlab_push(),
    sent.gitea_push("gitea"),
    sent.gitea_push("forgejo"),
    sent.bitbucket_push(),
]


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def events(hook: Hook) -> tuple[Event, ...]:
    headers, body = hook.request()
    return FORGES[hook.forge].parse(lower(headers), body).events


def event(hook: Hook) -> Any:
    (found,) = events(hook)
    return found


def test_signature_is_github_s_own_example() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    FORGES["github"].verify(SECRET.encode(), {"x-hub-signature-256": signature}, b"Hello, World!")


@pytest.mark.parametrize("hook", PUSHES, ids=lambda hook: hook.forge)
def test_forge_is_known_by_its_headers_and_its_signature_verified(hook: Hook) -> None:
    headers, body = hook.request()
    forge = detect(lower(headers))
    assert forge is not None
    assert forge.name == hook.forge
    assert forge.delivery_id(lower(headers)) == hook.delivery
    forge.verify(SECRET.encode(), lower(headers), body)
    with pytest.raises(WrongSignatureError):
        forge.verify(b"another secret", lower(headers), body)
    bare = {name: value for name, value in lower(headers).items() if "signature" not in name and "token" not in name}
    with pytest.raises(MissingSignatureError):
        forge.verify(SECRET.encode(), bare, body)


@pytest.mark.parametrize("hook", [hook for hook in PUSHES if hook.forge != "gitlab"], ids=lambda hook: hook.forge)
def test_one_other_byte_in_the_body_is_another_signature(hook: Hook) -> None:
    headers, body = hook.request()
    with pytest.raises(WrongSignatureError):
        FORGES[hook.forge].verify(SECRET.encode(), lower(headers), body + b" ")


def test_requests_of_no_forge_are_nobody_s() -> None:
    assert detect({"content-type": "application/json", "user-agent": "curl/8"}) is None


@pytest.mark.parametrize("hook", PUSHES, ids=lambda hook: hook.forge)
def test_push_tells_branch_and_commits(hook: Hook) -> None:
    push = event(hook)
    assert isinstance(push, Push)
    assert (push.branch, push.before, push.commit) == ("main", BEFORE, AFTER)
    assert push.title
    assert push.author
    assert push.url.startswith("https://")
    assert push.paths == (None if hook.forge == "bitbucket" else ("README.md",))


@pytest.mark.parametrize("hook", PUSHES, ids=lambda hook: hook.forge)
def test_repository_is_told_with_its_addresses(hook: Hook) -> None:
    headers, body = hook.request()
    repository = FORGES[hook.forge].parse(lower(headers), body).repository
    assert repository is not None
    assert any(url.removesuffix(".git") == f"{sent.SITES[hook.forge]}/{repository.name}" for url in repository.urls)


@pytest.mark.parametrize(
    "hook",
    [
        sent.github_push("refs/tags/v1"), sent.gitlab_push("refs/tags/v1", before=NONE),
        sent.gitea_create("gitea", "v1"), sent.gitea_create("forgejo", "v1"),
        sent.bitbucket_push(sent.bitbucket_change("tag", "v1", None, AFTER)),
        sent.bitbucket_push(sent.bitbucket_change("annotated_tag", "v1", None, AFTER)),
    ],
    ids=lambda hook: hook.forge,
)  # fmt: skip
def test_tag_is_told(hook: Hook) -> None:
    tag = event(hook)
    assert isinstance(tag, Tag)
    assert (tag.name, tag.commit) == ("v1", AFTER)


def test_annotated_tag_is_its_commit_not_its_object() -> None:
    other = "1" * 40
    hook = sent.github_push("refs/tags/v1", after=other)
    hook.document["head_commit"]["id"] = AFTER
    assert event(hook).commit == AFTER
    assert event(sent.gitlab_push("refs/tags/v1", before=NONE, after=other, checkout=AFTER)).commit == AFTER


def test_push_whose_head_commit_is_not_told_is_a_push() -> None:
    """GitHub sends null for it, at times also where a branch or a tag was made of a commit that it had before."""
    branch, tag = sent.github_push(), sent.github_push("refs/tags/v1")
    for hook in (branch, tag):
        hook.document["head_commit"] = None
    pushed, tagged = event(branch), event(tag)
    assert isinstance(pushed, Push)
    assert (pushed.branch, pushed.commit, pushed.title) == ("main", AFTER, "")
    assert pushed.url == branch.document["compare"]
    assert isinstance(tagged, Tag)
    assert (tagged.name, tagged.commit, tagged.title) == ("v1", AFTER, "")
    assert tagged.url == tag.document["compare"]


@pytest.mark.parametrize(
    ("hook", "member"),
    [
        (sent.github_push(), "compare"),
        (sent.gitea_push("gitea"), "compare_url"),
        (sent.gitea_push("forgejo"), "compare_url"),
    ],
    ids=["github", "gitea", "forgejo"],
)
def test_push_without_an_address_of_its_comparison_leads_to_its_commit(hook: Hook, member: str) -> None:
    hook.document[member] = ""
    assert event(hook).url == hook.document["head_commit"]["url"]


@pytest.mark.parametrize("forge", ["gitea", "forgejo"])
def test_twin_events_of_gitea_are_ignored(forge: str) -> None:
    assert isinstance(event(sent.gitea_push(forge, "refs/tags/v1")), Ignored)
    assert isinstance(event(sent.gitea_create(forge, "feature", "branch")), Ignored)


@pytest.mark.parametrize(
    "hook",
    [
        sent.github_push(after=NONE), sent.github_push("refs/tags/v1", after=NONE),
        sent.gitlab_push(after=NONE, checkout=None, total=0),
        sent.gitlab_push("refs/tags/v1", after=NONE, checkout=None),
        sent.gitea_push(after=NONE), sent.bitbucket_push(sent.bitbucket_change("branch", "old", BEFORE, None)),
        sent.bitbucket_push(sent.bitbucket_change("tag", "v1", BEFORE, None)),
    ],
    ids=lambda hook: hook.forge,
)  # fmt: skip
def test_deletion_is_ignored_with_the_reason(hook: Hook) -> None:
    ignored = event(hook)
    assert isinstance(ignored, Ignored)
    assert ignored.reason.endswith("was deleted")


def test_every_change_of_a_bitbucket_push_counts() -> None:
    changes = (
        sent.bitbucket_change("branch", "main", BEFORE, AFTER), sent.bitbucket_change("branch", "gone", BEFORE, None),
        sent.bitbucket_change("branch", "new", None, AFTER), sent.bitbucket_change("tag", "v2", None, AFTER),
    )  # fmt: skip
    kinds = [type(found) for found in events(sent.bitbucket_push(*changes))]
    assert kinds == [Push, Ignored, Push, Tag]


@pytest.mark.parametrize(
    "hook",
    [
        sent.github_push(before=NONE), sent.github_push(forced=True), sent.gitlab_push(total=21),
        sent.gitlab_push(before=NONE), sent.gitea_push(total=6), sent.gitea_push(paths=None),
        sent.gitea_push(before=NONE), sent.bitbucket_push(),
    ],
    ids=lambda hook: hook.forge,
)  # fmt: skip
def test_changed_files_are_unknown_where_the_payload_has_not_all(hook: Hook) -> None:
    assert event(hook).paths is None


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (sent.github_push(), ("Greet everybody", "octocat", "main")),
        (sent.gitlab_push(), ("Update the catalogue", "jsmith", "main")),
        (sent.gitea_push(), ("Webhooks Yay!", "gitea", "main")),
        (sent.bitbucket_push(), ("new commit message", "emmap1", "")),
    ],
    ids=["github", "gitlab", "gitea", "bitbucket"],
)
def test_push_is_shown_by_its_commit_s_title_and_who_pushed(hook: Hook, told: tuple[str, str, str]) -> None:
    push = event(hook)
    assert (push.title, push.author, push.default_branch) == told


def test_commit_that_is_shown_is_the_newest_of_the_push() -> None:
    hook = sent.gitlab_push(total=2)
    hook.document["commits"].insert(0, sent.gitlab_commit(BEFORE, ["old"]) | {"message": "Older", "url": "older"})
    push = event(hook)
    assert (push.title, push.paths) == ("Update the catalogue", ("old", "README.md"))
    assert push.url.endswith(AFTER)


@pytest.mark.parametrize(
    ("hook", "title", "author"),
    [
        (sent.github_push("refs/tags/v1"), "Greet everybody", "octocat"),
        (sent.gitlab_push("refs/tags/v1", before=NONE), "Release", "jsmith"),
        (sent.gitea_create("gitea", "refs/tags/v1"), "", "gitea"),
        (sent.bitbucket_push(sent.bitbucket_change("tag", "v1", None, AFTER)), "new commit message", "emmap1"),
    ],
    ids=["github", "gitlab", "gitea", "bitbucket"],
)
def test_tag_is_shown_by_its_message_and_who_made_it(hook: Hook, title: str, author: str) -> None:
    tag = event(hook)
    assert (tag.name, tag.title, tag.author) == ("v1", title, author)
    assert tag.url.startswith("https://")


def test_tag_without_a_message_has_its_commit_s_title() -> None:
    hook = sent.gitlab_push("refs/tags/v1", before=NONE)
    hook.document["message"] = ""
    assert event(hook).title == "Update the catalogue"
    bare = sent.gitlab_push("refs/tags/v1", before=NONE, checkout=None)
    assert event(bare).commit == AFTER, "what the tag points to, where no commit is named"


@pytest.mark.parametrize(
    ("hook", "members", "author"),
    [
        (sent.github_push(), {"sender": {"name": "Mona"}}, "Mona"),
        (sent.gitlab_push(), {"user_username": ""}, "John Smith"),
        (sent.gitlab_push("refs/tags/v1"), {"user_username": ""}, "John Smith"),
        (sent.gitea_push(), {"pusher": {"username": "short"}}, "short"),
        (sent.bitbucket_push(), {"actor": {"display_name": "Emma"}}, "Emma"),
    ],
    ids=["github", "gitlab", "gitlab tag", "gitea", "bitbucket"],
)
def test_who_has_no_user_s_name_is_shown_by_another(hook: Hook, members: dict[str, Any], author: str) -> None:
    hook.document.update(members)
    assert event(hook).author == author


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (sent.github_push("refs/notes/commits"), "refs/notes/commits is no branch and no tag"),
        (sent.gitlab_push("refs/notes/commits"), "refs/notes/commits is no branch"),
        (Hook("gitlab", "Tag Push Hook", sent.gitlab_push().document), "refs/heads/main is no tag"),
        (sent.gitea_push(ref="refs/notes/commits"), "refs/notes/commits is no branch"),
        (sent.gitea_push(ref="refs/tags/v1"), "the create event of refs/tags/v1 says the same"),
        (sent.gitea_create("gitea", "next", "branch"), "the push event of the new branch next says the same"),
        (
            sent.bitbucket_push(sent.bitbucket_change("bookmark", "b", None, AFTER)),
            "bookmark b is no branch and no tag",
        ),
        (sent.bitbucket_push(sent.bitbucket_change("branch", "b", None, None)), "nothing changed"),
        (sent.bitbucket_push(sent.bitbucket_change("branch", "b", BEFORE, None)), "branch b was deleted"),
        (sent.github_pull_request("labeled"), "pull request 7: labeled changes no code"),
        (sent.gitlab_merge_request("approved"), "merge request 12: approved changes no code"),
        (sent.gitlab_merge_request(""), "merge request 12: no action changes no code"),
        (sent.gitlab_merge_request("update"), "merge request 12: the update changes no code"),
        (sent.gitea_pull_request(action="label_updated"), "pull request 2: label_updated changes no code"),
    ],
)
def test_what_builds_nothing_says_why(hook: Hook, reason: str) -> None:
    assert event(hook) == Ignored(reason)


def test_push_of_bitbucket_without_changes_builds_nothing() -> None:
    hook = sent.bitbucket_push()
    hook.document["push"]["changes"] = []
    assert event(hook) == Ignored("nothing changed")


def test_pull_request_of_bitbucket_whose_source_is_gone_builds_nothing() -> None:
    for member in ("commit", "repository"):
        hook = sent.bitbucket_pull_request(fork=True)
        hook.document["pullrequest"]["source"][member] = None
        assert event(hook) == Ignored("pull request 3: its source is gone")


@pytest.mark.parametrize(
    ("hook", "pull"),
    [
        (
            sent.github_pull_request(),
            PullRequest(7, AFTER, "feature", "main", BEFORE, False, "", "Greet in Dutch", "stranger",
                        "https://github.com/octo-org/hello/pull/7"),
        ),
        (
            sent.gitlab_merge_request(),
            PullRequest(12, AFTER, "ms-viewport", "main", "", False, "", "MS-Viewport", "root",
                        "https://gitlab.com/mike/diaspora/-/merge_requests/12"),
        ),
        (
            sent.gitea_pull_request(),
            PullRequest(2, AFTER, "feature", "main", BEFORE, False, "", "Update", "stranger",
                        "https://gitea.example/gitea/webhooks/pulls/2"),
        ),
        (
            sent.bitbucket_pull_request(),
            PullRequest(3, AFTER[:12], "round", "main", BEFORE[:12], False, "", "Rounder widgets", "emmap1",
                        "https://bitbucket.org/team/widgets/pullrequests/3"),
        ),
    ],
    ids=["github", "gitlab", "gitea", "bitbucket"],
)  # fmt: skip
def test_pull_request_is_told_whole(hook: Hook, pull: PullRequest) -> None:
    assert event(hook) == pull


def test_pull_request_of_somebody_who_is_gone_has_no_author() -> None:
    for hook in (sent.github_pull_request(), sent.gitea_pull_request()):
        hook.document["pull_request"]["user"] = None
        assert event(hook).author == ""


def test_pull_request_to_a_repository_that_is_not_told_there_is_to_the_hook_s() -> None:
    for hook in (sent.github_pull_request(), sent.gitea_pull_request()):
        hook.document["pull_request"]["base"]["repo"] = None
        assert not event(hook).fork
        hook.document["pull_request"]["head"]["repo"] = None
        assert event(hook).fork


def test_base_of_a_pull_request_that_has_no_common_commit_is_the_target_s() -> None:
    hook = sent.gitea_pull_request()
    hook.document["pull_request"]["merge_base"] = ""
    hook.document["pull_request"]["base"]["sha"] = "1" * 40
    assert event(hook).base == "1" * 40
    gone = sent.bitbucket_pull_request()
    gone.document["pullrequest"]["destination"]["commit"] = None
    assert event(gone).base == ""


@pytest.mark.parametrize("event_name", ["push", "ping", "star"])
def test_request_of_an_organisation_names_no_repository(event_name: str) -> None:
    if event_name == "push":  # whatever happens to a repository names it
        with pytest.raises(WebhookError, match="as this forge sends it"):
            FORGES["github"].parse({"x-github-event": "push"}, b"{}")
        return
    assert FORGES["github"].parse({"x-github-event": event_name}, b"{}").repository is None
    assert FORGES["gitlab"].parse({"x-gitlab-event": event_name}, b"{}").repository is None
    assert FORGES["gitea"].parse({"x-gitea-event": event_name}, b"{}").repository is None
    assert FORGES["bitbucket"].parse({"x-event-key": event_name}, b"{}").repository is None


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo", "bitbucket"])
def test_pull_request_tells_whether_it_is_from_a_fork(forge: str, fork: bool) -> None:
    hook = {
        "github": lambda: sent.github_pull_request(fork=fork),
        "gitlab": lambda: sent.gitlab_merge_request(fork=fork),
        "gitea": lambda: sent.gitea_pull_request("gitea", fork=fork),
        "forgejo": lambda: sent.gitea_pull_request("forgejo", fork=fork),
        "bitbucket": lambda: sent.bitbucket_pull_request(fork=fork),
    }[forge]()
    pull = event(hook)
    assert isinstance(pull, PullRequest)
    assert pull.fork == fork
    assert AFTER.startswith(pull.commit)
    assert pull.target == "main"
    assert pull.title
    assert pull.author
    assert pull.url


def test_github_s_fork_that_is_gone_is_a_fork() -> None:
    assert event(sent.github_pull_request(gone=True)).fork


def test_bitbucket_s_fork_is_fetched_from_itself() -> None:
    assert event(sent.bitbucket_pull_request(fork=True)).clone_url == "https://bitbucket.org/stranger/widgets.git"


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (sent.github_pull_request("synchronize"), PullRequest), (sent.github_pull_request("reopened"), PullRequest),
        (sent.github_pull_request("labeled"), Ignored), (sent.github_pull_request("closed"), PullRequestClosed),
        (sent.gitlab_merge_request("update"), Ignored), (sent.gitlab_merge_request("reopen"), PullRequest),
        (sent.gitlab_merge_request("update", oldrev=BEFORE), PullRequest),
        (sent.gitlab_merge_request("merge"), PullRequestClosed), (sent.gitlab_merge_request("approved"), Ignored),
        (sent.gitea_pull_request(action="synchronized"), PullRequest),
        (sent.gitea_pull_request(action="label_updated"), Ignored),
        (sent.gitea_pull_request(action="closed"), PullRequestClosed),
        (sent.bitbucket_pull_request("updated"), PullRequest),
        (sent.bitbucket_pull_request("fulfilled"), PullRequestClosed),
        (sent.bitbucket_pull_request("rejected"), PullRequestClosed), (sent.github_ping(), Ping),
        (sent.gitea_push(before=AFTER), Ping),
    ],
)  # fmt: skip
def test_actions_mean_what_they_change(hook: Hook, kind: type[Event]) -> None:
    assert isinstance(event(hook), kind)


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo", "bitbucket"])
def test_other_events_are_ignored_by_name(forge: str) -> None:
    ignored = event(Hook(forge, "star", {"action": "created"}))
    assert ignored == Ignored("star events build nothing")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"ref": 1}', b"\xff\xfe", b"[" * 5000])
@pytest.mark.parametrize("hook", PUSHES, ids=lambda hook: hook.forge)
def test_bodies_of_another_form_are_said_to_be(hook: Hook, body: bytes) -> None:
    headers, _ = hook.request()
    with pytest.raises(WebhookError):
        FORGES[hook.forge].parse(lower(headers), body)


@pytest.mark.parametrize(("text", "good"), [("a\0b", False), ("a\\\0b", False), (r"a\u0000b", True)])
def test_nul_is_no_character_of_a_payload(text: str, good: bool) -> None:
    headers, body = sent.github_push().request()
    payload = {**json.loads(body), "comment": text}
    sent_again = json.dumps(payload).encode()
    with contextlib.nullcontext() if good else pytest.raises(WebhookError, match="NUL"):
        assert FORGES["github"].parse(lower(headers), sent_again).events == (event(sent.github_push()),)


def test_github_s_form_is_read_too() -> None:
    headers, body = sent.github_push().request()
    form = urlencode({"payload": body.decode()}).encode()
    forms = {**lower(headers), "content-type": "application/x-www-form-urlencoded"}
    assert FORGES["github"].parse(forms, form).events == (event(sent.github_push()),)


STATUS = Status("running", "shiplap", "is being built", "https://ci.example/runs/7", "main")
COMMON = {"target_url": "https://ci.example/runs/7", "description": "is being built"}


@pytest.mark.parametrize(
    ("forge", "path", "header", "body"),
    [
        ("github", f"/repos/o/r/statuses/{AFTER}", ("Authorization", "Bearer t0ken"),
         {**COMMON, "state": "pending", "context": "shiplap"}),
        ("gitlab", f"/projects/o%2Fr/statuses/{AFTER}", ("PRIVATE-TOKEN", "t0ken"),
         {**COMMON, "state": "running", "name": "shiplap", "ref": "main"}),
        ("gitea", f"/repos/o/r/statuses/{AFTER}", ("Authorization", "token t0ken"),
         {**COMMON, "state": "pending", "context": "shiplap"}),
        ("forgejo", f"/repos/o/r/statuses/{AFTER}", ("Authorization", "token t0ken"),
         {**COMMON, "state": "pending", "context": "shiplap"}),
        ("bitbucket", f"/repositories/o/r/commit/{AFTER}/statuses/build", ("Authorization", "Bearer t0ken"),
         {"key": "shiplap", "name": "shiplap", "state": "INPROGRESS", "url": STATUS.url, "refname": "main",
          "description": "is being built"}),
    ],
)  # fmt: skip
def test_status_has_the_form_of_the_forge(forge: str, path: str, header: tuple[str, str], body: dict[str, str]) -> None:
    call = FORGES[forge].status_call("o/r", AFTER, STATUS, "t0ken")
    assert (call.method, call.path, call.body) == ("POST", path, body)
    assert call.headers[header[0]] == header[1]
    json.dumps(call.body)


@pytest.mark.parametrize(
    ("forge", "url", "api"),
    [
        ("github", "https://github.com/o/r.git", "https://api.github.com"),
        ("github", "git@github.com:o/r.git", "https://api.github.com"),
        ("github", "https://ghe.example:8443/o/r", "https://ghe.example:8443/api/v3"),
        ("gitlab", "ssh://git@gitlab.example:2222/o/r.git", "https://gitlab.example/api/v4"),
        ("gitea", "https://[::1]:3000/o/r", "https://[::1]:3000/api/v1"),
        ("bitbucket", "https://bitbucket.org/o/r", "https://api.bitbucket.org/2.0"),
    ],
)
def test_api_is_found_beside_the_repository(forge: str, url: str, api: str) -> None:
    assert FORGES[forge].default_api(url) == api


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("pending", ("pending", "pending", "pending", "INPROGRESS")),
        ("running", ("pending", "running", "pending", "INPROGRESS")),
        ("success", ("success", "success", "success", "SUCCESSFUL")),
        ("failure", ("failure", "failed", "failure", "FAILED")),
        ("error", ("error", "failed", "error", "FAILED")),
        ("cancelled", ("error", "canceled", "error", "STOPPED")),
    ],
)
def test_state_has_the_forge_s_own_name(state: StatusState, names: tuple[str, ...]) -> None:
    status = Status(state, "shiplap", "", STATUS.url)
    forges = ("github", "gitlab", "gitea", "bitbucket")
    assert tuple(FORGES[forge].status_call("o/r", AFTER, status, "t").body["state"] for forge in forges) == names


def test_status_of_no_branch_names_none() -> None:
    status = Status("success", "shiplap", "", STATUS.url)
    assert "ref" not in FORGES["gitlab"].status_call("o/r", AFTER, status, "t").body
    assert "refname" not in FORGES["bitbucket"].status_call("o/r", AFTER, status, "t").body


@pytest.mark.parametrize(("forge", "most"), [("github", 140), ("gitlab", 255), ("gitea", 255)])
def test_description_is_as_long_as_the_forge_takes_it(forge: str, most: int) -> None:
    status = Status("success", "shiplap", "d" * 300, STATUS.url)
    assert FORGES[forge].status_call("o/r", AFTER, status, "t").body["description"] == "d" * most


def test_key_of_a_mark_at_bitbucket_is_as_long_as_it_takes_it() -> None:
    body = FORGES["bitbucket"].status_call("o/r", AFTER, Status("success", "c" * 50, "", STATUS.url), "t").body
    assert (body["key"], body["name"]) == ("c" * 40, "c" * 50)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h.test:8080/a.git", "http://h.test:8080"),
        ("https://h.test/a.git", "https://h.test"),
        ("git@h.test:a/b:c.git", "https://h.test"),
        ("ssh://git@[::1]:22/a", "https://[::1]"),
    ],
)
def test_site_of_a_repository_is_where_its_pages_are(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_title_is_a_line_that_fits_into_a_table() -> None:
    assert first_line("\n  One \ntwo") == "One "
    assert first_line("x" * 300) == "x" * 200
    assert (first_line(None), first_line(" \n")) == ("", "")


def test_delivery_is_known_by_the_first_header_that_has_an_id() -> None:
    gitlab = FORGES["gitlab"]
    assert gitlab.delivery_id({"webhook-id": "b", "x-gitlab-event-uuid": "c"}) == "b"
    assert gitlab.delivery_id({"idempotency-key": "", "x-gitlab-event-uuid": "c"}) == "c"
    assert gitlab.delivery_id({}) == ""


def test_bitbucket_s_app_password_is_sent_as_basic_credentials() -> None:
    call = FORGES["bitbucket"].status_call("o/r", AFTER, STATUS, "emma:pass")
    assert call.headers["Authorization"] == "Basic ZW1tYTpwYXNz"
