-- Wake those who wait for these results, as finish_job does for one; after the commit, as
-- wake_sleepers.
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || t.task_id)
FROM unnest(%(task_ids)s::text[], %(waiters)s::text[]) AS t (task_id, waiter)
WHERE CASE WHEN %(is_joined)s::boolean THEN true
           ELSE NOT pg_catalog.pg_try_advisory_xact_lock(
             %(space)s::integer, pg_catalog.hashtext(%(channel)s || t.waiter)) END
