-- 0010_add_autoscale: how many jobs could run, and how many may, for whatever starts workers.
-- migrate:up

-- Counted when it is read, and so right where no worker runs. Each queue up to 10,000 jobs: enough to say
-- that more workers are wanted; 10 ms for a queue that is as long, less than one for a short one.
CREATE VIEW pgjobs.autoscale AS
  SELECT q.name AS queue, c.ready, c.running,
         -- How many jobs could run at once if there were workers enough.
         least(CASE WHEN l.paused_at IS NULL THEN c.ready ELSE 0 END + c.running,
               CASE WHEN l.concurrency IS NOT NULL THEN greatest(l.concurrency, c.running) END) AS wanted,
         coalesce(s.slots, 0) AS slots, coalesce(s.workers, 0) AS workers
  FROM (
    SELECT d.name FROM pgjobs.queues AS d WHERE d.owner IS NULL AND d.expires_after IS NULL
  ) AS q
  LEFT JOIN pgjobs.limits AS l ON l.queue = q.name
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE h.claimed_by IS NULL) AS ready,
           pg_catalog.count(*) FILTER (WHERE h.claimed_by IS NOT NULL) AS running
    FROM (
      SELECT j.claimed_by
      FROM pgjobs.jobs AS j
      WHERE j.queue = q.name
        AND j.finished_at IS NULL
        AND j.due_at IS NULL
        AND j.message IS NOT NULL
      ORDER BY j.priority, j.seq
      LIMIT 10000
    ) AS h
  ) AS c
  LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) AS workers,
           pg_catalog.sum(CASE WHEN n.details ->> 'slots'::text ~ '^[0-9]{1,9}$'
                               THEN (n.details ->> 'slots'::text)::integer ELSE 0 END) AS slots
    FROM pgjobs.nodes AS n
    WHERE q.name = ANY (n.queues)
      AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'
  ) AS s ON true;

-- migrate:down

DROP VIEW pgjobs.autoscale;
