-- How many jobs and messages a consumer of the queue would get.
SELECT (SELECT pg_catalog.count(*) FROM pgjobs.jobs AS j
        WHERE j.queue = %(queue)s
          AND j.finished_at IS NULL
          AND j.due_at IS NULL
          AND j.claimed_by IS NULL)
     + (SELECT pg_catalog.count(*) FROM pgjobs.messages AS m
        WHERE m.queue = %(queue)s
          AND m.claimed_by IS NULL
          AND (m.expires_at IS NULL OR m.expires_at >= pg_catalog.now()))
