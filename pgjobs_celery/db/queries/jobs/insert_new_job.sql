-- As insert_job, for an id that has no row yet, as almost every id has none. Returns nothing, and
-- changes nothing, where the id has one. A third of its price: 30 microseconds less, and 400 with drivers
-- that have each statement parsed and planned anew (Django's, psycopg2).
INSERT INTO pgjobs.jobs
  (task_id, task, queue, root_id, parent_id, group_id, group_index, expires_at, message, body,
   priority, max_attempts, tags, meta, scheduled_at, due_at, state, seq, lane, cost)
SELECT %(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
       %(group_index)s::integer,
       least(%(expires_at)s::timestamptz, coalesce(w.eta, pg_catalog.now()) + interval '1 second' * least(
         %(ttl)s::double precision,
         (SELECT q.message_ttl FROM pgjobs.queues AS q WHERE q.name = %(queue)s))),
       %(message)s, %(body)s, %(priority)s,
       coalesce(%(max_attempts)s::integer, 20), %(tags)s::text[], %(meta)s::jsonb,
       coalesce(w.eta, pg_catalog.now()),
       CASE WHEN w.eta > pg_catalog.now() THEN w.eta END,
       CASE WHEN w.eta > pg_catalog.now() THEN 'scheduled' ELSE 'available' END,
       coalesce(%(seq)s::bigint, pg_catalog.nextval('pgjobs.jobs_seq')),
       %(lane)s::text, %(cost)s::integer
FROM (SELECT coalesce(pg_catalog.now() + %(delay)s::double precision * interval '1 second',
                      %(eta)s::timestamptz) AS eta) AS w
ON CONFLICT DO NOTHING
RETURNING CASE WHEN %(channel)s::text IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'j' || queue) END,
          CASE WHEN %(channel)s::text IS NOT NULL AND due_at IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'd') END
