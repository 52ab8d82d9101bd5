"""Decide about the schema: its version, what differs from the migrations, the role's privileges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...db.migrations.files import load_migrations
from ...db.migrations.objects import Drift, compare, creation, made_objects
from ...db.migrations.versions import COMMAND as MIGRATE
from ...db.migrations.versions import too_new
from ...db.rights import SEQUENCE, TABLE, Rights, all_rights, grants, quoted, used_rights
from ...db.sql import in_schema
from ...errors import PermissionMissing, SchemaError
from .findings import Finding, LeftOut, finding

if TYPE_CHECKING:
    from ...db.migrations.versions import Status
    from ...db.rows.doctor import Looks
    from .thresholds import Thresholds

#: The columns that each claim writes: in an index they keep a claim from being a HOT update.
CLAIMED = (
    "state", "attempt", "max_attempts", "claimed_by", "attempted_at", "attempted_by", "acks_late",
)  # fmt: skip
#: How much of a definition is shown.
LONGEST = 160
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (\S+) ON (ONLY )?(\w+) ")
_COLUMN = re.compile(r"(?P<type>.*?)(?P<filled> NOT NULL)?(?: IDENTITY)?(?: DEFAULT (?P<by>.*))?")


def look_at_schema(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """Its version, and whether its objects are as the migrations have made them."""
    try:
        status = looks.status()
    except PermissionMissing as error:
        text, _, remedy = str(error).partition("; let its owner run: ")
        yield finding("missing_rights", f"{text}.", remedy or text, looks.schema)
        return
    except SchemaError as error:
        yield finding("foreign_schema", f"{error}.", "Choose another schema", looks.schema)
        return
    yield from decide_version(status)
    version, made = made_objects()
    if status.version == version and not status.pending:
        yield from decide_drift(compare(made, looks.describe_schema()), looks.schema)


def decide_version(status: Status) -> Iterator[Finding]:
    """Whether this release and the schema fit each other."""
    schema, version, newest = status.schema, status.version, status.newest
    details = {"version": version, "newest": newest}
    if not version:
        text = f"Schema {schema} has no tables of this package."
        yield finding("no_schema", text, MIGRATE, schema, **details)
        return
    if status.is_breaking:
        yield finding(
            "schema_too_new",
            f"{too_new(schema, version, newest)}.",
            "Upgrade pgjobs-celery here",
            schema,
            **details,
        )
    elif version > newest:
        yield finding(
            "schema_newer",
            f"Schema {schema} is at version {version}, and this release knows {newest}; it works"
            " with it.",
            "Upgrade pgjobs-celery here, if this is no deploy under way",
            schema,
            **details,
        )
    if status.pending:
        steps = ", ".join(map(str, status.pending))
        yield finding(
            "schema_behind",
            f"Schema {schema} is at version {version}, this release needs {newest}: {steps}."
            " Workers and programs of this release do not start.",
            MIGRATE,
            schema,
            pending=[str(each) for each in status.pending],
            **details,
        )
    for file in status.changed:
        yield finding(
            "migration_changed",
            f"{file}.sql is not what was applied: the file was edited since.",
            "Reinstall the package, or compare the file with that of the release",
            str(file),
        )


def require(looks: Looks) -> Status:
    """The status of a schema that this release can work with; raises LeftOut for another."""
    try:
        status = looks.status()
    except (PermissionMissing, SchemaError):
        raise LeftOut("the schema cannot be read") from None
    if not status.version:
        raise LeftOut("the tables do not exist")
    if status.is_breaking:
        raise LeftOut("the schema belongs to a newer release")
    if status.pending:
        raise LeftOut("the schema is behind this release")
    return status


def decide_drift(drifts: Iterable[Drift], schema: str) -> Iterator[Finding]:
    """Objects that are gone, changed or added."""
    drifts = list(drifts)
    constraints = {each.name for each in drifts if each.kind == "constraint"}
    columns = {each.name for each in drifts if each.kind == "column"}
    identities = {f"{name.replace('.', '_')}_seq" for name in columns}
    for each in drifts:
        if each.kind == "index" and any(name.endswith(f".{each.name}") for name in constraints):
            continue  # it goes and comes with its constraint
        if each.kind == "sequence" and each.name in identities:
            continue  # and this with its column
        details = {"kind": each.kind, "made": each.made, "found": each.found}
        subject = f"{each.kind} {each.name}"
        if each.made is None:
            yield from _extra(each, schema, subject, details)
        elif each.kind == "options":
            yield finding(
                "storage_options",
                f"{each.name} has ({each.found}) in place of ({each.made}).",
                _set_options(each, schema),
                subject,
                **details,
            )
        else:
            made, found = _where_they_differ(each.made, each.found or "")
            how = "does not exist" if each.found is None else f"is {found}"
            yield finding(
                "schema_drift",
                f"{subject} {how}; the migrations made it {made}.",
                restore(each, schema),
                subject,
                **details,
            )


def _where_they_differ(one: str, other: str) -> Iterator[str]:
    """Both texts; of long ones what stands around the first difference."""
    pairs = enumerate(zip(one, other, strict=False))
    first = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    for text in (one, other):
        begin, end = max(0, first - 40), max(0, first - 40) + LONGEST
        if len(text) <= LONGEST:
            yield text
        else:
            yield f"{'...' if begin else ''}{text[begin:end]}{'...' if text[end:] else ''}"


def _extra(
    each: Drift, schema: str, subject: str, details: dict[str, str | None]
) -> Iterator[Finding]:
    if each.kind not in ("column", "constraint", "index", "trigger"):
        return  # your own tables and views may live here
    table, _, name = each.name.partition(".")
    place = f"{quoted(schema)}.{table}"
    drop = {
        "index": f"DROP INDEX CONCURRENTLY {quoted(schema)}.{quoted(each.name)};",
        "column": f"ALTER TABLE {place} DROP COLUMN {quoted(name)};",
        "constraint": f"ALTER TABLE {place} DROP CONSTRAINT {quoted(name)};",
        "trigger": f"DROP TRIGGER {quoted(name)} ON {place};",
    }[each.kind]
    found = each.found or ""
    if each.kind == "index" and " ON jobs " in found:
        columns = [name for name in CLAIMED if re.search(rf"\b{name}\b", found.partition("(")[2])]
        if columns:
            yield finding(
                "index_on_claim",
                f"{found}: a claim writes {', '.join(columns)}, and so has to write to every"
                " index of the table, four times the WAL.",
                drop,
                subject,
                **details,
            )
            return
    yield finding(
        "schema_extra",
        f"No migration made {subject}: {found}. A later migration may trip over it.",
        f"{drop} -- if you do not need it",
        subject,
        **details,
    )


def _set_options(each: Drift, schema: str) -> str:
    made = dict(option.split("=", 1) for option in (each.made or "").split(", ") if option)
    found = dict(option.split("=", 1) for option in (each.found or "").split(", ") if option)
    table = f"{quoted(schema)}.{each.name}"
    steps = []
    if gone := [name for name in found if name not in made]:
        steps.append(f"ALTER TABLE {table} RESET ({', '.join(gone)});")
    if other := [f"{name} = {value}" for name, value in made.items() if found.get(name) != value]:
        steps.append(f"ALTER TABLE {table} SET ({', '.join(other)});")
    return " ".join(steps)


def restore(drift: Drift, schema: str) -> str:
    """SQL that makes an object anew as it was made, or a sentence where none can."""
    place = quoted(schema)
    made, found = drift.made or "", drift.found
    table, _, name = drift.name.partition(".")
    if drift.kind == "index" and (match := _INDEX.match(made)):
        unique, index, only, table = (part or "" for part in match.groups())
        how = "" if only else "CONCURRENTLY "
        drop = "" if found is None else f"DROP INDEX {how}{place}.{index}; "
        rest = made[match.end() :]
        return f"{drop}CREATE {unique}INDEX {how}{index} ON {place}.{table} {rest};"
    if drift.kind == "constraint":
        alter = f"ALTER TABLE {place}.{table}"
        drop = "" if found is None else f"{alter} DROP CONSTRAINT {name}; "
        return f"{drop}{alter} ADD CONSTRAINT {name} {made};"
    if drift.kind == "trigger":
        drop = "" if found is None else f"DROP TRIGGER {name} ON {place}.{table}; "
        made = made.replace(f" ON {table} ", f" ON {place}.{table} ")
        return drop + made.replace(" EXECUTE FUNCTION ", f" EXECUTE FUNCTION {place}.") + ";"
    if drift.kind == "column":
        return _restore_column(f"ALTER TABLE {place}.{table}", name, made, found, place)
    if drift.kind in ("function", "view"):
        text = creation(load_migrations(), drift.kind, drift.name)
        if text is not None:
            drop = (
                "" if drift.kind == "function" or found is None else f"DROP VIEW {place}.{name}; "
            )
            drop = drop.replace(f"{place}.;", f"{place}.{drift.name};")
            return drop + in_schema(text, schema)
    if drift.kind == "table" and found is not None:
        return _restore_table(f"ALTER TABLE {place}.{drift.name}", made, found)
    return "Restore it from a backup, or dump the jobs, and migrate a new schema"


def _restore_table(alter: str, made: str, found: str) -> str:
    steps = []
    if "ROW LEVEL SECURITY" in found:
        steps.append(f"{alter} DISABLE ROW LEVEL SECURITY;")
    if made.split(maxsplit=1)[0] != found.split(maxsplit=1)[0]:
        steps.append(f"{alter} SET {made.split(maxsplit=1)[0]};")
    return " ".join(steps) or "Restore it from a backup"


def _restore_column(alter: str, name: str, made: str, found: str | None, place: str) -> str:
    made = made.replace("nextval('", f"nextval('{place}.")
    if found is None:
        return f"{alter} ADD COLUMN {name} {made.replace(' IDENTITY', '')};"
    wanted, there = _COLUMN.fullmatch(made), _COLUMN.fullmatch(found)
    assert wanted is not None
    assert there is not None
    steps = []
    if wanted["type"] != there["type"]:
        steps.append(f"{alter} ALTER COLUMN {name} TYPE {wanted['type']};")
    if wanted["by"] != there["by"]:
        how = f"SET DEFAULT {wanted['by']}" if wanted["by"] else "DROP DEFAULT"
        steps.append(f"{alter} ALTER COLUMN {name} {how};")
    if wanted["filled"] != there["filled"]:
        steps.append(
            f"{alter} ALTER COLUMN {name} {'SET' if wanted['filled'] else 'DROP'} NOT NULL;"
        )
    if " IDENTITY" in made and " IDENTITY" not in found:
        table = alter.rsplit(maxsplit=1)[-1]
        steps.append(f"{alter} ALTER COLUMN {name} ADD GENERATED BY DEFAULT AS IDENTITY;")
        sequence = f"pg_get_serial_sequence('{table}', '{name}')"
        steps.append(f"SELECT setval({sequence}, max({name}) + 1) FROM {table};")
    return " ".join(steps)


def look_at_rights(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """What the role may do."""
    status = require(looks)
    user = looks.examine_server().user
    yield from decide_rights(looks.list_missing_rights(status), user, status)


def decide_rights(missing: list[tuple[str, str]], user: str, status: Status) -> Iterator[Finding]:
    """Which privileges a worker would miss, and which statements fail without them."""
    rights: dict[str, list[str]] = {}
    ours = {name.partition("(")[0] for kind, name in made_objects()[1] if kind == "function"}
    functions = [name for name, privilege in missing if privilege == "EXECUTE" and name in ours]
    missing = [pair for pair in missing if pair[1] != "EXECUTE" or pair[0] in ours]
    if not missing:
        return
    for name, privilege in missing:
        if privilege == "EXECUTE":
            continue
        if privilege in (*TABLE, *SEQUENCE) and name != status.schema:
            rights.setdefault(name, []).append(privilege)
    failing = sorted(folder for folder, used in used_rights().items() if used & set(missing))
    named = ", ".join(f"{', '.join(given)} on {name}" for name, given in rights.items())
    named += f"; EXECUTE on {', '.join(functions)}" if functions else ""
    details = {"role": user, "missing": [list(pair) for pair in missing], "failing": failing}
    remedy = grants(rights, status.files, status.schema, quoted(user))
    if functions:
        place = quoted(status.schema)
        remedy += f" GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {place} TO {quoted(user)};"
    if not functions and _only_reads(rights, status):
        yield finding(
            "role_reads_only",
            f"Role {user} may read all tables and change none: it can look at jobs, and neither"
            " publish nor run any.",
            f"{remedy} -- if workers or programs connect as {user}",
            user,
            **details,
        )
        return
    yield finding(
        "missing_rights",
        f"Role {user} lacks {named or 'USAGE on the schema'}. Statements of these kinds fail:"
        f" {', '.join(failing) or 'all'}.",
        remedy,
        user,
        **details,
    )


def _only_reads(missing: Rights, status: Status) -> bool:
    """True where it lacks every privilege but SELECT, which it has on all tables."""
    return all(
        set(missing.get(name, ())) == set(given) - {"SELECT"}
        for name, given in all_rights(status.files).items()
    )
