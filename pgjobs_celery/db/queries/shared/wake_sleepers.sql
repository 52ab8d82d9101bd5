-- A worker that waits for a queue holds its key shared; only then does anybody need to be woken.
-- After the commit and in a transaction of its own: a NOTIFY inside the inserting one takes a
-- database-wide lock through the commit's flush (6,800 instead of 22,900 inserts a second).
-- In a caller's transaction the NOTIFY is inside all the same, and is sent unconditionally: the key
-- would hold up every worker that begins to wait, for as long as the transaction lasts.
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(name)s)
WHERE CASE WHEN %(is_joined)s::boolean THEN true
           ELSE NOT pg_catalog.pg_try_advisory_xact_lock(
             %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(name)s)) END
