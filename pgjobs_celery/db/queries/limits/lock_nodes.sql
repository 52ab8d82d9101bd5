-- Wait until every claim that began before is committed, so that later claims see what we write: a
-- claim locks its node's row. This lock alone suffices, because the table's other users are as brief;
-- it is taken after the row of limits, which a claim locks first as well.
LOCK TABLE pgjobs.nodes IN EXCLUSIVE MODE
