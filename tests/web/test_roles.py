"""Who may do what: roles, grants beyond them, and a hook that decides."""

from __future__ import annotations

import pytest

from pgjobs_celery.control.rights import ACTION_RIGHTS
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web import Role, User
from pgjobs_celery.web.pages import ROUTES
from pgjobs_celery.web.roles import PERMISSIONS, Rules, merge_permissions
from pgjobs_celery.web.routes import Act, Page


@pytest.mark.parametrize(
    ("user", "allowed", "refused"),
    [
        (User("v"), [], ["retry_jobs", "delete_jobs"]),
        (User("o", "operator"), ["retry_jobs"], ["delete_jobs"]),
        (User("a", Role.ADMIN), ["retry_jobs", "delete_jobs"], []),
        (User("v", also=["delete_jobs"]), ["delete_jobs"], ["retry_jobs"]),
    ],
)
def test_a_role_may_do_what_those_below_it_may(user, allowed, refused):
    rules = Rules(PERMISSIONS)
    assert [rules.refusal(user, action) for action in allowed] == [None] * len(allowed)
    for action in refused:
        assert rules.refusal(user, action) == (
            f"{user.name} is {user.role}; this needs {PERMISSIONS[action]}"
        )


@pytest.mark.parametrize(
    ("decided", "role", "reason"),
    [
        (True, "viewer", None),
        (False, "admin", "x may not do this here"),
        (None, "admin", None),
        (None, "viewer", "x is viewer; this needs operator"),
    ],
)
def test_a_hook_decides_before_the_roles(decided, role, reason):
    rules = Rules(PERMISSIONS, lambda user, action: decided)
    assert rules.refusal(User("x", role), "retry_jobs") == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "1 to 255"), ("x" * 256, "1 to 255"), ("a\0b", "NUL"), ("\ud800", "Unicode")],
)
def test_a_name_that_the_audit_cannot_keep_is_no_user(name, reason):
    with pytest.raises(InvalidOption, match=reason):
        User(name)


@pytest.mark.parametrize("name", ["a b@example.com", "Ünïcødé", "\u202egnp", "'; --", "<script>"])
def test_a_user_may_have_any_other_name(name):
    assert User(name).name == name


def test_a_role_or_an_action_that_is_not_there_is_named_with_what_was_meant():
    with pytest.raises(InvalidOption, match="did you mean 'operator'"):
        User("x", "operater")
    with pytest.raises(InvalidOption, match="did you mean 'retry_jobs'"):
        User("x", also=["retry_job"])


def test_permissions_are_merged_with_the_usual_ones():
    merged = merge_permissions({"retry_jobs": "admin"})
    assert merged == {**PERMISSIONS, "retry_jobs": Role.ADMIN}


def test_every_action_has_a_role_and_the_privileges_that_it_needs():
    used = {route.permission for route in ROUTES if isinstance(route, Act)}
    assert used <= PERMISSIONS.keys()
    assert PERMISSIONS.keys() == ACTION_RIGHTS.keys()


def test_no_two_routes_have_the_same_path_or_name():
    paths = [(route.path, isinstance(route, Act)) for route in ROUTES]
    assert len(set(paths)) == len(paths)
    names = [route.name for route in ROUTES if isinstance(route, Page)]
    assert len(set(names)) == len(names)
