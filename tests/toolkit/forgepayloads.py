"""Webhooks as the forges send them: whole payloads, made from what the forges' documentation says of each member.

Every function returns the event's name in headers and the document; ``Hook.request`` signs it as the forge does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECRET = "It's a Secret to Everybody"
BEFORE = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
AFTER = "59b20b8d5c6ff8d09518216e87534e2c6d3a4e4d"
NONE = "0" * 40
WHEN = "2026-11-24T02:11:37Z"
Json = dict[str, Any]

SITES = {
    "github": "https://github.com", "gitlab": "https://gitlab.com", "gitea": "https://gitea.example",
    "forgejo": "https://codeberg.example", "bitbucket": "https://bitbucket.org",
}  # fmt: skip


@dataclass(frozen=True)
class Hook:
    """One webhook before it is sent."""

    forge: str
    event: str
    document: Json
    delivery: str = field(default_factory=lambda: str(uuid.uuid4()))

    def request(self, secret: str = SECRET) -> tuple[dict[str, str], bytes]:
        """Headers and body."""
        body = json.dumps(self.document).encode()
        return headers(self.forge, self.event, body, self.delivery, secret), body


def headers(forge: str, event: str, body: bytes, delivery: str, secret: str) -> dict[str, str]:
    """What the forge sends beside a body. Gitea and Forgejo send the headers of those before them, too."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    found = {"Content-Type": "application/json", "Accept": "*/*"}
    if forge == "gitlab":
        kinds = {"User-Agent": "GitLab/18.6.0", "X-Gitlab-Event": event, "X-Gitlab-Token": secret}
        ids = {"Idempotency-Key": delivery, "X-Gitlab-Event-UUID": str(uuid.uuid4()), "webhook-id": delivery}
        return {**found, **kinds, **ids, "X-Gitlab-Instance": "https://gitlab.com"}
    if forge == "bitbucket":
        kinds = {"User-Agent": "Bitbucket-Webhooks/2.0", "X-Event-Key": event, "X-Request-UUID": delivery}
        return {**found, **kinds, "X-Hook-UUID": str(uuid.uuid4()), "X-Attempt-Number": "1",
                "X-Hub-Signature": f"sha256={signature}"}  # fmt: skip
    found |= {
        "User-Agent": "GitHub-Hookshot/044aadd" if forge == "github" else "Go-http-client/1.1",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    for other in {"gitea": ("gogs", "gitea"), "forgejo": ("gogs", "gitea", "forgejo")}.get(forge, ()):
        found |= {f"X-{other.title()}-Event": event, f"X-{other.title()}-Delivery": delivery}
        found |= {f"X-{other.title()}-Signature": signature, f"X-{other.title()}-Event-Type": event}
    return found


# ---- GitHub


def github_repository(name: str = "octo-org/hello", number: int = 186853002, **more: Any) -> Json:
    owner, _, short = name.partition("/")
    api = f"https://api.github.com/repos/{name}"
    links = ("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents",
             "deployments", "downloads", "events", "forks", "hooks", "issues", "keys", "labels", "languages", "merges",
             "milestones", "notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "tags",
             "teams", "trees")  # fmt: skip
    return {
        "id": number, "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=", "name": short, "full_name": name,
        "private": False, "owner": github_user(owner), "html_url": f"https://github.com/{name}",
        "description": None, "fork": False, "url": api, **{f"{link}_url": f"{api}/{link}" for link in links},
        "created_at": 1558109200, "updated_at": WHEN, "pushed_at": 1558109311,
        "git_url": f"git://github.com/{name}.git", "ssh_url": f"git@github.com:{name}.git",
        "clone_url": f"https://github.com/{name}.git", "svn_url": f"https://github.com/{name}", "homepage": None,
        "size": 42, "stargazers_count": 0, "watchers_count": 0, "language": "Python", "has_issues": True,
        "has_projects": True, "has_downloads": True, "has_wiki": True, "has_pages": False, "forks_count": 0,
        "mirror_url": None, "archived": False, "disabled": False, "open_issues_count": 2, "license": None,
        "allow_forking": True, "is_template": False, "topics": [], "visibility": "public", "forks": 0,
        "open_issues": 2, "watchers": 0, "default_branch": "main", "stargazers": 0, "master_branch": "main", **more,
    }  # fmt: skip


def github_user(login: str = "octocat") -> Json:
    api = f"https://api.github.com/users/{login}"
    links = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events")
    return {
        "login": login, "id": 21031067, "node_id": "MDQ6VXNlcjIxMDMxMDY3", "gravatar_id": "", "url": api,
        "avatar_url": "https://avatars.githubusercontent.com/u/21031067?v=4", "html_url": f"https://github.com/{login}",
        **{f"{link}_url": f"{api}/{link}" for link in links}, "type": "User", "site_admin": False,
    }  # fmt: skip


def github_commit(commit: str, paths: Sequence[str], message: str) -> Json:
    person = {"name": "Mona", "email": "mona@github.example", "username": "octocat"}
    return {
        "id": commit, "tree_id": "f9d2a07e9488b91af2641b26b9407fe22a451433", "distinct": True, "message": message,
        "timestamp": WHEN, "url": f"https://github.com/octo-org/hello/commit/{commit}", "author": person,
        "committer": person, "added": [], "removed": [], "modified": list(paths),
    }  # fmt: skip


def github_push(
    ref: str = "refs/heads/main",
    *,
    before: str = BEFORE,
    after: str = AFTER,
    paths: Sequence[str] = ("README.md",),
    message: str = "Greet everybody\n\nNot only the world.",
    **more: Any,
) -> Hook:
    head = None if after == NONE else github_commit(after, paths, message)
    document = {
        "ref": ref, "before": before, "after": after, "repository": github_repository(),
        "pusher": {"name": "octocat", "email": "mona@github.example"}, "sender": github_user(),
        "created": before == NONE, "deleted": after == NONE, "forced": False, "base_ref": None,
        "compare": f"https://github.com/octo-org/hello/compare/{before[:12]}...{after[:12]}",
        "commits": [head] if head else [], "head_commit": head, **more,
    }  # fmt: skip
    return Hook("github", "push", document)


def github_pull_request(
    action: str = "opened", *, fork: bool = False, gone: bool = False, commit: str = AFTER, branch: str = "feature"
) -> Hook:
    base = github_repository()
    head = github_repository("stranger/hello", 999_111, fork=True) if fork else base
    pull = {
        "url": "https://api.github.com/repos/octo-org/hello/pulls/7", "id": 279147437, "number": 7,
        "node_id": "MDExOlB1bGxSZXF1ZXN0Mjc5MTQ3NDM3", "html_url": "https://github.com/octo-org/hello/pull/7",
        "state": "open", "locked": False, "title": "Greet in Dutch", "user": github_user("stranger"), "body": "Hallo",
        "created_at": WHEN, "updated_at": WHEN, "closed_at": None, "merged_at": None, "merge_commit_sha": None,
        "assignee": None, "assignees": [], "requested_reviewers": [], "requested_teams": [], "labels": [],
        "milestone": None, "draft": False,
        "head": {"label": f"{head['owner']['login']}:{branch}", "ref": branch, "sha": commit,
                 "user": github_user("stranger"), "repo": None if gone else head},
        "base": {"label": "octo-org:main", "ref": "main", "sha": BEFORE, "user": github_user("octo-org"), "repo": base},
        "author_association": "NONE", "merged": False, "mergeable": None, "comments": 0, "commits": 1, "additions": 1,
        "deletions": 1, "changed_files": 1,
    }  # fmt: skip
    document = {"action": action, "number": 7, "pull_request": pull, "repository": base, "sender": github_user()}
    return Hook("github", "pull_request", document)


def github_ping() -> Hook:
    hook = {
        "type": "Repository", "id": 292430182, "name": "web", "active": True, "events": ["push"],
        "config": {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": "https://ci.example/hooks/app"},
        "updated_at": WHEN, "created_at": WHEN,
    }  # fmt: skip
    document = {
        "zen": "Design for failure.", "hook_id": 292430182, "hook": hook, "repository": github_repository(),
        "sender": github_user(),
    }  # fmt: skip
    return Hook("github", "ping", document)


# ---- GitLab


def gitlab_project(name: str = "mike/diaspora", number: int = 15) -> Json:
    url = f"https://gitlab.com/{name}"
    return {
        "id": number, "name": "Diaspora", "description": "", "web_url": url, "avatar_url": None,
        "git_ssh_url": f"git@gitlab.com:{name}.git", "git_http_url": f"{url}.git", "namespace": "Mike",
        "visibility_level": 0, "path_with_namespace": name, "default_branch": "main", "ci_config_path": "",
        "homepage": url, "url": f"git@gitlab.com:{name}.git", "ssh_url": f"git@gitlab.com:{name}.git",
        "http_url": f"{url}.git",
    }  # fmt: skip


def gitlab_commit(commit: str, paths: Sequence[str]) -> Json:
    return {
        "id": commit, "message": "Update the catalogue\n\nIt was old.", "title": "Update the catalogue",
        "timestamp": WHEN, "url": f"https://gitlab.com/mike/diaspora/-/commit/{commit}",
        "author": {"name": "Jordi", "email": "jordi@gitlab.example"}, "added": [], "modified": list(paths),
        "removed": [],
    }  # fmt: skip


def gitlab_push(
    ref: str = "refs/heads/main",
    *,
    before: str = BEFORE,
    after: str = AFTER,
    checkout: str | None = AFTER,
    paths: Sequence[str] = ("README.md",),
    total: int = 1,
) -> Hook:
    is_tag = ref.startswith("refs/tags/")
    project = gitlab_project()
    document = {
        "object_kind": "tag_push" if is_tag else "push", "event_name": "tag_push" if is_tag else "push",
        "before": before, "after": after, "ref": ref, "ref_protected": True, "checkout_sha": checkout,
        "message": "Release" if is_tag else None, "user_id": 4, "user_name": "John Smith", "user_username": "jsmith",
        "user_email": "", "user_avatar": "https://s.gravatar.com/avatar/x", "project_id": project["id"],
        "project": project, "commits": [gitlab_commit(checkout, paths)] if checkout else [],
        "total_commits_count": total, "push_options": {},
        "repository": {"name": "Diaspora", "url": project["url"], "description": "", "homepage": project["web_url"],
                       "git_http_url": project["git_http_url"], "git_ssh_url": project["git_ssh_url"],
                       "visibility_level": 0},
    }  # fmt: skip
    return Hook("gitlab", "Tag Push Hook" if is_tag else "Push Hook", document)


def gitlab_merge_request(action: str = "open", *, oldrev: str | None = None, fork: bool = False) -> Hook:
    target = gitlab_project()
    source = gitlab_project("stranger/diaspora", 99) if fork else target
    attributes = {
        "id": 93, "iid": 12, "target_branch": "main", "source_branch": "ms-viewport",
        "source_project_id": source["id"], "author_id": 51, "assignee_ids": [6], "assignee_id": 6, "reviewer_ids": [],
        "title": "MS-Viewport", "created_at": WHEN, "updated_at": WHEN, "milestone_id": None, "state_id": 1,
        "state": "opened", "blocking_discussions_resolved": True, "work_in_progress": False, "draft": False,
        "first_contribution": True, "merge_status": "unchecked", "target_project_id": target["id"], "description": "",
        "prepared_at": WHEN, "total_time_spent": 0, "time_change": 0, "human_total_time_spent": None,
        "human_time_change": None, "human_time_estimate": None,
        "url": "https://gitlab.com/mike/diaspora/-/merge_requests/12", "source": source, "target": target,
        "last_commit": gitlab_commit(AFTER, ["a.c"]), "labels": [], "action": action,
        "detailed_merge_status": "mergeable",
    }  # fmt: skip
    if oldrev:
        attributes["oldrev"] = oldrev
    user = {"id": 1, "name": "Administrator", "username": "root", "avatar_url": None, "email": "[REDACTED]"}
    document = {
        "object_kind": "merge_request", "event_type": "merge_request", "user": user, "project": target,
        "repository": {"name": "Diaspora", "url": target["url"], "description": "", "homepage": target["web_url"]},
        "object_attributes": attributes, "labels": [], "changes": {}, "assignees": [], "reviewers": [],
    }  # fmt: skip
    return Hook("gitlab", "Merge Request Hook", document)


# ---- Gitea and Forgejo


def gitea_user(login: str = "gitea") -> Json:
    return {
        "id": 1, "login": login, "login_name": "", "source_id": 0, "full_name": "", "email": f"{login}@gitea.example",
        "avatar_url": "https://gitea.example/avatars/1", "html_url": f"https://gitea.example/{login}", "language": "",
        "is_admin": False, "last_login": "0001-01-01T00:00:00Z", "created": WHEN, "restricted": False, "active": False,
        "prohibit_login": False, "location": "", "website": "", "description": "", "visibility": "public",
        "followers_count": 0, "following_count": 0, "starred_repos_count": 0, "username": login,
    }  # fmt: skip


def gitea_repository(forge: str, name: str = "gitea/webhooks", number: int = 140) -> Json:
    owner, _, short = name.partition("/")
    site = SITES[forge]
    host = site.partition("//")[2]
    return {
        "id": number, "owner": gitea_user(owner), "name": short, "full_name": name, "description": "", "empty": False,
        "private": False, "fork": False, "template": False, "parent": None, "mirror": False, "size": 64,
        "language": "", "languages_url": f"{site}/api/v1/repos/{name}/languages", "html_url": f"{site}/{name}",
        "url": f"{site}/api/v1/repos/{name}", "link": "", "ssh_url": f"ssh://git@{host}:2222/{name}.git",
        "clone_url": f"{site}/{name}.git", "original_url": "", "website": "", "stars_count": 0, "forks_count": 1,
        "watchers_count": 1, "open_issues_count": 7, "open_pr_counter": 1, "release_counter": 0,
        "default_branch": "main", "archived": False, "created_at": WHEN, "updated_at": WHEN,
        "permissions": {"admin": False, "push": False, "pull": False}, "has_issues": True, "has_wiki": True,
        "has_pull_requests": True, "avatar_url": "", "internal": False, "mirror_interval": "", "topics": None,
        "object_format_name": "sha1", "mirror_updated": "0001-01-01T00:00:00Z", "repo_transfer": None,
    }  # fmt: skip


def gitea_push(
    forge: str = "gitea",
    ref: str = "refs/heads/main",
    *,
    before: str = BEFORE,
    after: str = AFTER,
    paths: Sequence[str] | None = ("README.md",),
    total: int = 1,
) -> Hook:
    url = f"{SITES[forge]}/gitea/webhooks"
    person = {"name": "Gitea", "email": "someone@gitea.example", "username": "gitea"}
    lists: Mapping[str, Any] = {"added": None, "removed": None, "modified": None}
    if paths is not None:
        lists = {"added": [], "removed": [], "modified": list(paths)}
    head = {
        "id": after, "message": "Webhooks Yay!\n", "url": f"{url}/commit/{after}", "author": person,
        "committer": person, "verification": None, "timestamp": WHEN, **lists,
    }  # fmt: skip
    document = {
        "ref": ref, "before": before, "after": after, "compare_url": f"{url}/compare/{before}...{after}",
        "commits": [] if after == NONE else [head], "total_commits": total,
        "head_commit": None if after == NONE else head, "repository": gitea_repository(forge),
        "pusher": gitea_user(), "sender": gitea_user(),
    }  # fmt: skip
    return Hook(forge, "push", document)


def gitea_create(forge: str = "gitea", ref: str = "v1.0", ref_type: str = "tag") -> Hook:
    document = {
        "sha": AFTER, "ref": ref, "ref_type": ref_type, "repository": gitea_repository(forge), "sender": gitea_user(),
    }  # fmt: skip
    return Hook(forge, "create", document)


def gitea_pull_request(forge: str = "gitea", action: str = "opened", *, fork: bool = False) -> Hook:
    base = gitea_repository(forge)
    head = gitea_repository(forge, "stranger/webhooks", 141) if fork else base
    url = f"{base['html_url']}/pulls/2"
    pull = {
        "id": 1, "url": url, "number": 2, "user": gitea_user("stranger"), "title": "Update", "body": "", "labels": [],
        "milestone": None, "assignee": None, "assignees": None, "requested_reviewers": None, "state": "open",
        "draft": False, "is_locked": False, "comments": 0, "html_url": url, "diff_url": f"{url}.diff",
        "patch_url": f"{url}.patch", "mergeable": True, "merged": False, "merged_at": None, "merge_commit_sha": None,
        "merged_by": None, "allow_maintainer_edit": False,
        "base": {"label": "main", "ref": "main", "sha": BEFORE, "repo_id": base["id"], "repo": base},
        "head": {"label": "feature", "ref": "feature", "sha": AFTER, "repo_id": head["id"], "repo": head},
        "merge_base": BEFORE, "due_date": None, "created_at": WHEN, "updated_at": WHEN, "closed_at": None,
        "pin_order": 0,
    }  # fmt: skip
    document = {
        "action": action, "number": 2, "pull_request": pull, "requested_reviewer": None, "repository": base,
        "sender": gitea_user("stranger"), "commit_id": "", "review": None,
    }  # fmt: skip
    return Hook(forge, "pull_request", document)


# ---- Bitbucket Cloud


def bitbucket_links(path: str) -> Json:
    return {
        "self": {"href": f"https://api.bitbucket.org/2.0/{path}"},
        "html": {"href": f"https://bitbucket.org/{path.partition('/')[2]}"},
        "avatar": {"href": "https://bytebucket.org/ravatar/x?ts=python"},
    }  # fmt: skip


def bitbucket_user() -> Json:
    return {
        "type": "user", "display_name": "Emma", "nickname": "emmap1", "account_id": "5b10ac8d82e05b22cc7d4ef5",
        "uuid": "{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}", "links": bitbucket_links("users/emmap1"),
    }  # fmt: skip


def bitbucket_repository(name: str = "team/widgets") -> Json:
    return {
        "type": "repository", "full_name": name, "links": bitbucket_links(f"repositories/{name}"),
        "name": name.partition("/")[2], "uuid": "{673a6070-3421-46c9-9d48-90745f7bfe8e}", "scm": "git",
        "is_private": True, "website": None, "owner": bitbucket_user(), "workspace": {"slug": "team"},
        "project": {"key": "PROJ", "name": "Project"},
    }  # fmt: skip


def bitbucket_ref(kind: str, name: str, commit: str) -> Json:
    links = bitbucket_links(f"repositories/team/widgets/commit/{commit}")
    target = {
        "type": "commit", "hash": commit, "message": "new commit message\n", "date": WHEN, "rendered": {},
        "author": {"type": "author", "raw": "Emma <emma@x.example>", "user": bitbucket_user()}, "links": links,
        "parents": [{"type": "commit", "hash": BEFORE, "links": links}], "summary": {}, "properties": {},
    }  # fmt: skip
    return {"type": kind, "name": name, "target": target, "links": links, "merge_strategies": ["squash"]}


def bitbucket_change(kind: str, name: str, before: str | None, after: str | None) -> Json:
    return {
        "old": bitbucket_ref(kind, name, before) if before else None,
        "new": bitbucket_ref(kind, name, after) if after else None,
        "links": bitbucket_links(f"repositories/team/widgets/branches/compare/{after}..{before}"),
        "created": before is None, "forced": False, "closed": after is None, "commits": [], "truncated": False,
    }  # fmt: skip


def bitbucket_push(*changes: Json) -> Hook:
    made = changes or (bitbucket_change("branch", "main", BEFORE, AFTER),)
    document = {"actor": bitbucket_user(), "repository": bitbucket_repository(), "push": {"changes": list(made)}}
    return Hook("bitbucket", "repo:push", document)


def bitbucket_pull_request(event: str = "created", *, fork: bool = False) -> Hook:
    source = bitbucket_repository("stranger/widgets" if fork else "team/widgets")
    pull = {
        "type": "pullrequest", "id": 3, "title": "Rounder widgets", "description": "", "state": "OPEN", "draft": False,
        "author": bitbucket_user(), "comment_count": 0, "task_count": 0, "merge_commit": None, "closed_by": None,
        "source": {"branch": {"name": "round"}, "commit": {"type": "commit", "hash": AFTER[:12]}, "repository": source},
        "destination": {"branch": {"name": "main"}, "commit": {"type": "commit", "hash": BEFORE[:12]},
                        "repository": bitbucket_repository()},
        "participants": [], "reviewers": [], "close_source_branch": True, "reason": "", "created_on": WHEN,
        "updated_on": WHEN, "links": bitbucket_links("repositories/team/widgets/pullrequests/3"),
    }  # fmt: skip
    document = {"repository": bitbucket_repository(), "actor": bitbucket_user(), "pullrequest": pull}
    return Hook("bitbucket", f"pullrequest:{event}", document)
