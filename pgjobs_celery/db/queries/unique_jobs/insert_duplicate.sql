-- A job that was not put in line because another of its kind exists, but whose id was handed out (to a
-- group, to a chord, or chosen by the caller): its row is cancelled, and names the job that stands for
-- it.
INSERT INTO pgjobs.jobs
  (task_id, task, queue, root_id, parent_id, group_id, group_index, expires_at, message, body,
   priority, max_attempts, tags, meta, state, finished_at, superseded_by, given_key, lane, cost,
   errors)
VALUES (%(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
        %(group_index)s::integer, %(expires_at)s::timestamptz, %(message)s, %(body)s, %(priority)s,
        coalesce(%(max_attempts)s::integer, 20), %(tags)s::text[], %(meta)s::jsonb,
        'cancelled', pg_catalog.clock_timestamp(), %(holder)s, %(unique_key)s::bytea,
        %(lane)s::text, %(cost)s::integer,
        pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
          'attempt', 0, 'at', pg_catalog.now(), 'type', 'TaskRevokedError', 'module', 'celery.exceptions',
          'message', 'a duplicate of job ' || %(holder)s)))
ON CONFLICT DO NOTHING
