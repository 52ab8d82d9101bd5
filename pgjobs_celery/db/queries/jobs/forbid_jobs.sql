-- Revoke ids that have no row yet, so that a job published later under one of them is cancelled
-- (insert_job). Such a row cannot run, and is pruned as other cancelled jobs are. In the order of the
-- ids, so that two callers do not wait for each other.
INSERT INTO pgjobs.jobs (task_id, task, queue, state, finished_at, cancel_requested_at, errors)
SELECT u.task_id, '', '', 'cancelled', pg_catalog.now(), pg_catalog.now(),
       pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
         'attempt', 0, 'at', pg_catalog.now(), 'type', 'TaskRevokedError', 'module', 'celery.exceptions',
         'message', 'revoked before it was published'))
FROM (SELECT DISTINCT pg_catalog.unnest(%(task_ids)s::text[]) AS task_id ORDER BY 1) AS u
WHERE NOT EXISTS (SELECT FROM pgjobs.jobs AS j WHERE j.task_id = u.task_id)
ON CONFLICT (task_id) DO NOTHING
RETURNING task_id
