-- Insert a job that must be the only one of its kind, unless another has its key. A job that has the
-- key, but in a state that does not count or published too long ago, gives it up first; only when
-- another wants the key, so that claiming and finishing need not know of it. The second caller here
-- waits for the first at the row that it frees, or at the index, and then finds its job. A job that
-- gave the key up for its state is told which job has it now: it may come back into line.
WITH freed AS (
  UPDATE pgjobs.jobs AS h
  SET unique_key = NULL,
      superseded_by = CASE WHEN (h.inserted_at <= o.since) IS NOT TRUE THEN %(task_id)s END,
      given_key = CASE WHEN (h.inserted_at <= o.since) IS NOT TRUE THEN h.unique_key END
  FROM (SELECT pg_catalog.now() - %(period)s::double precision * interval '1 second' AS since) AS o
  WHERE h.unique_key = %(unique_key)s::bytea
    AND h.task_id <> %(task_id)s
    AND (h.state <> ALL (%(states)s::text[]) OR h.inserted_at <= o.since)
  RETURNING 1
)
INSERT INTO pgjobs.jobs
  (task_id, task, queue, root_id, parent_id, group_id, group_index, expires_at, message, body,
   priority, max_attempts, tags, meta, unique_key, scheduled_at, due_at, state, seq, lane,
   cost)
SELECT %(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
       %(group_index)s::integer,
       least(%(expires_at)s::timestamptz,
             coalesce(%(eta)s::timestamptz, pg_catalog.now()) + interval '1 second' * least(
               %(ttl)s::double precision,
               (SELECT q.message_ttl FROM pgjobs.queues AS q WHERE q.name = %(queue)s))),
       %(message)s, %(body)s, %(priority)s,
       coalesce(%(max_attempts)s::integer, 20), %(tags)s::text[], %(meta)s::jsonb,
       %(unique_key)s::bytea,
       coalesce(%(eta)s::timestamptz, pg_catalog.now()),
       CASE WHEN %(eta)s::timestamptz > pg_catalog.now() THEN %(eta)s::timestamptz END,
       CASE WHEN %(eta)s::timestamptz > pg_catalog.now() THEN 'scheduled' ELSE 'available' END,
       coalesce(%(seq)s::bigint, pg_catalog.nextval('pgjobs.jobs_seq')),
       %(lane)s::text, %(cost)s::integer
-- Counted, so that it is freed before the key is taken.
FROM (SELECT pg_catalog.count(*) FROM freed) AS f
ON CONFLICT DO NOTHING
RETURNING CASE WHEN %(channel)s::text IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'j' || queue) END,
          CASE WHEN %(channel)s::text IS NOT NULL AND due_at IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'd') END
