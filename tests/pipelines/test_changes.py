"""What the audit trail says of a change: from what to what, and nothing of what is secret."""

from __future__ import annotations

import msgspec
import pytest

from pipelines.changes import LONGEST, MOST, Change, compared, in_words, of_secret
from pipelines.errors import ConflictError
from pipelines.model import HookSettings, Project
from pipelines.owning.grants import Grant
from pipelines.owning.policies import Policy
from pipelines.service import Service


def told(before: object, after: object) -> list[str]:
    return [in_words(change) for change in compared(before, after)]


def test_only_what_differs_is_told_and_members_within_have_dots() -> None:
    before = Project("web", hook=HookSettings(branches=("main",), build_args={"A": "1", "B": "2"}))
    hook = HookSettings(branches=("main", "next"), build_args={"A": "1", "C": "3"}, cancel_superseded=False)
    assert told(before, Project("web", concurrency=2, hook=hook)) == [
        "concurrency: 0 → 2",
        "hook.branches: main → main, next",
        "hook.build_args.C: nothing → 3",
        "hook.cancel_superseded: yes → no",
        "hook.build_args.B: 2 → nothing",
    ]
    assert told(before, before) == told(None, None) == []
    assert told(None, {"role": "build", "note": ""}) == ["role: nothing → build"]


def test_passwords_in_addresses_are_left_out_and_long_texts_cut() -> None:
    old, new = "https://ci:hunter2@git.example/x", "https://ci:hunter3@git.example/x"
    assert told({"repository": old}, {"repository": new}) == ["repository: https://***@git.example/x → changed"]
    mirrors = {"mirrors": ["https://ci:a@b@one.example/x", "git@two.example:x", "https://three.example/a@b"]}
    assert told(None, mirrors) == [
        "mirrors: nothing → https://***@one.example/x, git@two.example:x, https://three.example/a@b"
    ], "of a password with an @ nothing is left"
    (long,) = compared({"text": "a" * 9999}, {"text": "a" * 9998 + "b"})
    assert (len(long.before), long.after) == (LONGEST, "changed")
    many = compared({}, {str(number): "x" for number in range(10_000)})
    assert (len(many), many[-1].what) == (MOST, f"{10_000 - MOST + 1} more")


@pytest.mark.parametrize(
    ("had", "has", "told"), [(False, True, ("", "set")), (True, True, ("set", "changed")), (True, False, ("set", ""))]
)
def test_a_secret_is_set_and_changed(had: bool, has: bool, told: tuple[str, str]) -> None:
    assert of_secret("value", had=had, has=has) == (Change("value", *told),)
    assert of_secret("value", had=False, has=False) == ()


def test_the_trail_keeps_changes_and_has_none_of_old_entries(service: Service) -> None:
    service.audit.add("ada", "old", "x", "role admin")
    service.audit.add("ada", "new", "x", changes=[Change("role", "a\x1b[31m", "b\n")])
    new, old = service.audit.list()
    assert (old.detail, old.changes) == ("role admin", ())
    assert new.changes == (Change("role", "a\ufffd[31m", "b\ufffd"),)


def test_what_was_given_and_taken_is_told(service: Service) -> None:
    service.projects.put(Project("web"))
    policy = Policy(branches=("main",))
    given = service.grants.give(Grant("web", "secret", "KEY", policy=policy))
    assert [in_words(each) for each in given] == ["given: nothing → yes", "policy.branches: nothing → main"]
    assert service.grants.give(Grant("web", "secret", "KEY"), keeps_policy=True) == ()
    assert [in_words(each) for each in service.grants.give(Grant("web", "secret", "NEW"), keeps_policy=True)] == [
        "given: nothing → yes"
    ]
    assert [in_words(each) for each in service.grants.take(Grant("web", "secret", "KEY"))] == [
        "given: yes → nothing",
        "policy.branches: main → nothing",
    ]
    first = service.logins.put("quay.io", "ci", "hunter2")
    assert [in_words(each) for each in first] == ["username: nothing → ci", "password: nothing → set"]
    assert [in_words(each) for each in service.logins.put("quay.io", "ci", "x")] == ["password: set → changed"]


def test_of_two_who_save_different_settings_at_once_neither_undoes_the_other(service: Service) -> None:
    service.projects.put(Project("web"))
    seen = service.projects.get("web")
    service.projects.put(msgspec.structs.replace(seen, keep_runs=5), seen=seen)
    later = msgspec.structs.replace(seen, keep_days=3)
    with pytest.raises(ConflictError, match="at the same moment"):
        service.projects.put(later, seen=seen)
    assert service.projects.get("web").keep_runs == 5
