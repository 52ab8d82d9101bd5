"""Visitors and their rights: viewer, operator, admin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ..control.acting import checked
from ..errors import InvalidOption
from ..job.checks import did_you_mean


class Role(IntEnum):
    """Each may do all that those below it may."""

    #: Looks, and changes nothing.
    VIEWER = 0
    #: Runs again, cancels, pauses: what can be undone, or does no more than a worker would.
    OPERATOR = 1
    #: Deletes, changes entries, stops workers.
    ADMIN = 2

    @classmethod
    def of(cls, name: str | Role) -> Role:
        """The role of this name. Raises InvalidOption."""
        if isinstance(name, Role):
            return name
        try:
            return cls[str(name).upper()]
        except KeyError:
            names = [role.name.lower() for role in cls]
            near = did_you_mean(str(name).lower(), names) or f"; there are {', '.join(names)}"
            raise InvalidOption(f"there is no role {name!r}{near}") from None

    def __str__(self) -> str:
        return self.name.lower()


#: The least role that each action needs. The names are those of the audit where it has one.
PERMISSIONS: dict[str, Role] = {
    "retry_jobs": Role.OPERATOR,
    "cancel_jobs": Role.OPERATOR,
    "terminate_jobs": Role.OPERATOR,
    "reschedule_jobs": Role.OPERATOR,
    "prioritize_jobs": Role.OPERATOR,
    "move_jobs": Role.OPERATOR,
    # Its payload goes into the job.
    "signal_job": Role.OPERATOR,
    "delete_jobs": Role.ADMIN,
    # A visitor who goes on with an operation may also do what it does.
    "stop_operation": Role.OPERATOR,
    "resume_operation": Role.OPERATOR,
    "undo_operation": Role.OPERATOR,
    "publish_jobs": Role.ADMIN,
    "pause_queue": Role.OPERATOR,
    "resume_queue": Role.OPERATOR,
    "limit_queue": Role.OPERATOR,
    "set_flow": Role.OPERATOR,
    "reset_flow": Role.OPERATOR,
    "reset_queue": Role.OPERATOR,
    "share_queue": Role.OPERATOR,
    "weigh_key": Role.OPERATOR,
    "bound_queue": Role.OPERATOR,
    "pause_jobs": Role.OPERATOR,
    "resume_jobs": Role.OPERATOR,
    "run_schedule": Role.OPERATOR,
    "pause_schedule": Role.OPERATOR,
    "resume_schedule": Role.OPERATOR,
    "put_schedule": Role.ADMIN,
    "delete_schedule": Role.ADMIN,
    "ping_worker": Role.OPERATOR,
    "resize_worker": Role.ADMIN,
    "shutdown_worker": Role.ADMIN,
}


@dataclass(frozen=True)
class User:
    """A visitor, as the login knows them.

    >>> User("alice", "operator")
    User(name='alice', role=<Role.OPERATOR: 1>, also=frozenset())

    Raises InvalidOption for a name that the audit cannot keep (1 to 255 characters, no NUL), and
    for a role or an action that does not exist.
    """

    #: As the audit records it.
    name: str
    role: str | Role = Role.VIEWER
    #: Actions that this visitor may do beyond the role.
    also: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        checked(self.name, "the name of a User")
        object.__setattr__(self, "role", Role.of(self.role))
        object.__setattr__(self, "also", frozenset(map(check_action, self.also)))


#: Says of a user and an action: True, False, or None for what the roles say.
May = Callable[[User, str], "bool | None"]


@dataclass(frozen=True)
class Rules:
    """The rights of visitors."""

    permissions: Mapping[str, Role]
    may: May | None = None

    def refusal(self, user: User, action: str) -> str | None:
        """The reason why a user may not do it; None if they may."""
        decided = None if self.may is None else self.may(user, action)
        if decided is not None:
            return None if decided else f"{user.name} may not do this here"
        if Role.of(user.role) >= self.permissions[action] or action in user.also:
            return None
        return f"{user.name} is {user.role}; this needs {self.permissions[action]}"


def merge_permissions(changed: Mapping[str, str | Role]) -> dict[str, Role]:
    """The roles that actions need, with these changed. Raises InvalidOption for unknown names."""
    return PERMISSIONS | {check_action(name): Role.of(role) for name, role in changed.items()}


def check_action(name: str) -> str:
    """The name; raises InvalidOption unless it is one of an action."""
    if name not in PERMISSIONS:
        raise InvalidOption(f"there is no action {name!r}{did_you_mean(name, PERMISSIONS)}")
    return name
