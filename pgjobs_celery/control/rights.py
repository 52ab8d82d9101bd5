"""Which privileges an action needs, and whether the database role has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..db.rows.privileges import pairs

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rights import Rights
    from ..db.rows.privileges import Granted

_JOBS: Rights = {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",)}
#: A job that comes into line again gets a new place in it.
_LINE: Rights = {**_JOBS, "jobs_seq": ("USAGE",)}
_SCHEDULES: Rights = {
    "schedules": ("SELECT", "UPDATE"), "schedules_version": ("USAGE",), "jobs": ("SELECT",),
    "audit": ("INSERT",),
}  # fmt: skip
#: The rules that people set for queues, flows and keys.
_RULES: Rights = {
    **dict.fromkeys(("flows", "weights", "pauses"), ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "limits": ("SELECT", "INSERT", "UPDATE"), "lanes": ("SELECT", "UPDATE"),
    "rounds": ("SELECT",), "audit": ("INSERT",),
}  # fmt: skip
_OPERATIONS: Rights = {"entries": ("SELECT", "INSERT", "UPDATE", "DELETE")}

#: The privileges that each action needs; None: those of a worker, for it publishes.
ACTION_RIGHTS: dict[str, Rights | None] = {
    "cancel_jobs": _JOBS,
    "terminate_jobs": _JOBS,
    "retry_jobs": _LINE,
    "reschedule_jobs": _LINE,
    "prioritize_jobs": _LINE,
    "move_jobs": _LINE,
    "signal_job": {"signals": ("SELECT", "INSERT"), "audit": ("INSERT",)},
    "delete_jobs": {"jobs": ("SELECT", "UPDATE", "DELETE"), "audit": ("INSERT",)},
    # The progress of an operation on many jobs is kept there; its batches need what they do.
    "stop_operation": {**_OPERATIONS, "audit": ("INSERT",)},
    "resume_operation": {**_OPERATIONS, "audit": ("INSERT",)},
    "undo_operation": {**_LINE, **_OPERATIONS},
    "publish_jobs": None,
    # Claims wait for the transaction that has locked the nodes.
    "pause_queue": {
        "limits": ("SELECT", "INSERT", "UPDATE"), "nodes": ("UPDATE",), "audit": ("INSERT",),
    },
    "share_queue": _RULES,
    "weigh_key": _RULES,
    "bound_queue": _RULES,
    "reset_queue": _RULES,
    "set_flow": _RULES,
    "reset_flow": _RULES,
    "pause_jobs": _RULES,
    "resume_jobs": {**_RULES, **_JOBS},
    "resume_queue": {"limits": ("SELECT", "UPDATE"), "audit": ("INSERT",)},
    "limit_queue": {
        "limits": ("SELECT", "INSERT", "UPDATE"), "nodes": ("UPDATE",),
        "slots": ("SELECT", "INSERT", "UPDATE"), "jobs": ("SELECT",), "audit": ("INSERT",),
    },
    "put_schedule": {
        "schedules": ("SELECT", "INSERT", "UPDATE"), "schedules_version": ("USAGE",),
        "jobs": ("SELECT",), "audit": ("INSERT",),
    },
    "pause_schedule": _SCHEDULES,
    "resume_schedule": _SCHEDULES,
    "delete_schedule": {
        "schedules": ("SELECT", "DELETE"), "jobs": ("SELECT",), "audit": ("INSERT",),
    },
    "run_schedule": None,
    "ping_worker": None,
    "resize_worker": None,
    "shutdown_worker": None,
}  # fmt: skip


@dataclass(frozen=True)
class RoleRights:
    """The part that the role of a database may do of :data:`ACTION_RIGHTS`."""

    role: str
    takes_writes: bool
    #: The reason why an action cannot be done, by its name.
    refused: dict[str, str]
    #: The statement that the owner of the schema has to run for it.
    grants: dict[str, str]

    @property
    def notice(self) -> str:
        """The reason why nothing can be done at all; empty where something can."""
        if not self.takes_writes:
            return "The server takes no writes (a standby?): nothing can be changed here."
        if len(self.refused) == len(ACTION_RIGHTS):
            return f"The database role {self.role} may only read: nothing can be changed here."
        return ""


def look_at_rights(database: Database) -> RoleRights:
    """The rights of the role that this process connects as; one statement."""
    granted = database.privileges.look_at_privileges(ACTION_RIGHTS.values())
    refused = {
        action: reason
        for action, rights in ACTION_RIGHTS.items()
        if (reason := _refusal(granted, rights))
    }
    grants = {
        action: database.privileges.grants(ACTION_RIGHTS[action], granted.role)
        for action in refused
        if granted.takes_writes
    }
    return RoleRights(granted.role, granted.takes_writes, refused, grants)


def _refusal(granted: Granted, rights: Rights | None) -> str:
    if not granted.takes_writes:
        return "the server takes no writes (a standby?)"
    lacking = sorted(pairs(rights) & granted.missing)
    if not lacking:
        return ""
    words = ", ".join(f"{privilege} on {name}" for privilege, name in lacking[:FEW])
    more = f" and {len(lacking) - FEW} more" if len(lacking) > FEW else ""
    return f"the database role {granted.role} lacks {words}{more}"


#: How many privileges are named where many are missing.
FEW = 4
