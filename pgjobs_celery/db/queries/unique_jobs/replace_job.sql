-- Another job of its kind was published: that one's values of these fields count from now on. Only
-- while the job waits; a job that becomes available now, or moves to another queue, goes to its tail.
-- Its time is not moved beyond "latest": seconds from when it was published or, if it has begun since,
-- from its last attempt.
-- Its lane follows its arguments and its queue. One that was published to another queue, and does not move
-- this job there, has that queue's lane, which is not for this one.
UPDATE pgjobs.jobs AS j
SET message = CASE WHEN 'args' = ANY (f.names) THEN %(message)s ELSE j.message END,
    body = CASE WHEN 'args' = ANY (f.names) THEN %(body)s ELSE j.body END,
    queue = CASE WHEN 'queue' = ANY (f.names) THEN %(queue)s ELSE j.queue END,
    priority = (CASE WHEN 'priority' = ANY (f.names) THEN %(priority)s::integer ELSE j.priority END & 255)
               + CASE WHEN 'queue' = ANY (f.names) OR 'args' = ANY (f.names) AND j.queue = %(queue)s
                      THEN CASE WHEN %(lane)s::text IS NULL THEN 0 ELSE 256 END
                      ELSE j.priority & 256 END,
    lane = CASE WHEN 'queue' = ANY (f.names) OR 'args' = ANY (f.names) AND j.queue = %(queue)s
                THEN %(lane)s::text ELSE j.lane END,
    cost = CASE WHEN 'args' = ANY (f.names) THEN %(cost)s::integer ELSE j.cost END,
    tags = CASE WHEN 'tags' = ANY (f.names) THEN %(tags)s::text[] ELSE j.tags END,
    meta = CASE WHEN 'meta' = ANY (f.names) THEN %(meta)s::jsonb ELSE j.meta END,
    max_attempts = CASE WHEN 'max_attempts' = ANY (f.names)
                        THEN greatest(j.attempt + 1, coalesce(%(max_attempts)s::integer, 20))
                        ELSE j.max_attempts END,
    scheduled_at = CASE WHEN 'eta' = ANY (f.names)
                        THEN least(f.eta, coalesce(j.attempted_at, j.inserted_at) + f.latest)
                        ELSE j.scheduled_at END,
    due_at = CASE WHEN 'eta' <> ALL (f.names) THEN j.due_at
                  WHEN least(f.eta, coalesce(j.attempted_at, j.inserted_at) + f.latest) > pg_catalog.now()
                  THEN least(f.eta, coalesce(j.attempted_at, j.inserted_at) + f.latest) END,
    state = CASE WHEN 'eta' <> ALL (f.names) THEN j.state
                 WHEN least(f.eta, coalesce(j.attempted_at, j.inserted_at) + f.latest) <= pg_catalog.now()
                 THEN 'available'
                 WHEN j.state = 'retryable' THEN 'retryable'
                 ELSE 'scheduled' END,
    seq = CASE WHEN 'eta' = ANY (f.names) OR 'queue' = ANY (f.names)
               THEN coalesce(%(seq)s::bigint, pg_catalog.nextval('pgjobs.jobs_seq')) ELSE j.seq END
FROM (SELECT %(fields)s::text[] AS names,
             coalesce(%(eta)s::timestamptz, pg_catalog.now()) AS eta,
             interval '1 second' * %(latest)s::double precision AS latest) AS f
WHERE j.task_id = %(task_id)s
  AND j.unique_key = %(unique_key)s::bytea
  AND j.finished_at IS NULL
  AND j.claimed_by IS NULL
RETURNING j.queue
