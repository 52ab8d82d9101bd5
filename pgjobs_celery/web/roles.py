"""Visitors and their rights: viewer, operator, admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

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
    "delete_jobs": Role.ADMIN,
    "publish_jobs": Role.ADMIN,
    "pause_queue": Role.OPERATOR,
    "resume_queue": Role.OPERATOR,
    "limit_queue": Role.OPERATOR,
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
    """A visitor, as the login knows them."""

    #: As the audit records it.
    name: str
    role: Role = Role.VIEWER

    def may(self, action: str, permissions: Mapping[str, Role]) -> bool:
        """True if the role is enough for the action."""
        return self.role >= permissions[action]


def merge_permissions(changed: Mapping[str, str | Role]) -> dict[str, Role]:
    """The roles that actions need, with these changed. Raises InvalidOption for unknown names."""
    for action in changed:
        if action not in PERMISSIONS:
            near = did_you_mean(action, PERMISSIONS)
            raise InvalidOption(f"there is no action {action!r}{near}")
    return PERMISSIONS | {action: Role.of(role) for action, role in changed.items()}
