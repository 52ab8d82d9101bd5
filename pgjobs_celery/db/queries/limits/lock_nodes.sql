-- Wait until every claim that began before is committed, and have those that come after see what we
-- write: a claim locks its node's row. That lock alone, for the table's other users are as brief; and
-- after the row of limits, which a claim locks first as well.
LOCK TABLE pgjobs.nodes IN EXCLUSIVE MODE
