-- As insert_job, for a job whose id is not there: for any other nothing is returned, and insert_job says
-- what becomes of it. Drivers that do not prepare statements (Django's, psycopg2) have them parsed and
-- planned each time: 250 microseconds for this one, all in all, and 650 for the other.
INSERT INTO pgjobs.jobs AS j
  (task_id, task, queue, root_id, parent_id, group_id, group_index, expires_at, message, body,
   priority, max_attempts, tags, meta, scheduled_at, due_at, state, seq)
SELECT %(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
       %(group_index)s::integer,
       least(%(expires_at)s::timestamptz, coalesce(w.eta, now()) + interval '1 second' * least(
         %(ttl)s::double precision,
         (SELECT q.message_ttl FROM pgjobs.queues AS q WHERE q.name = %(queue)s))),
       %(message)s, %(body)s, %(priority)s,
       coalesce(%(max_attempts)s::integer, 20), %(tags)s::text[], %(meta)s::jsonb,
       coalesce(w.eta, now()),
       CASE WHEN w.eta > now() THEN w.eta END,
       CASE WHEN w.eta > now() THEN 'scheduled' ELSE 'available' END,
       coalesce(%(seq)s::bigint, nextval('pgjobs.jobs_seq'))
FROM (SELECT %(eta)s::timestamptz AS eta) AS w
ON CONFLICT (task_id) DO NOTHING
RETURNING CASE WHEN %(channel)s::text IS NOT NULL
               THEN pg_notify(%(channel)s::text, 'j' || j.queue) END,
          CASE WHEN %(channel)s::text IS NOT NULL AND j.due_at IS NOT NULL
               THEN pg_notify(%(channel)s::text, 'd') END
