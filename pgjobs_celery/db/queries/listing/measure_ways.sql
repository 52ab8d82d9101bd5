-- How many rows each index leads to that the filters leave: what may run or does, what waits for its time,
-- what has ended, what has failed so, what belongs to a workflow. Each up to a depth: what is few is looked through as a whole, and of what is many the
-- newest. A way that the filters close is not gone.
SELECT
  (SELECT pg_catalog.count(*) FROM (
     SELECT FROM pgjobs.jobs AS j
     WHERE %(is_ready)s::boolean
       AND j.finished_at IS NULL
       AND j.due_at IS NULL
       AND (%(queue)s::text[] IS NULL OR j.queue = ANY (%(queue)s::text[]))
     LIMIT %(depth)s::bigint) AS r),
  (SELECT pg_catalog.count(*) FROM (
     SELECT FROM pgjobs.jobs AS j
     WHERE %(is_due)s::boolean
       AND j.finished_at IS NULL
       AND j.due_at IS NOT NULL
     LIMIT %(depth)s::bigint) AS d),
  (SELECT pg_catalog.count(*) FROM (
     SELECT FROM pgjobs.jobs AS j
     WHERE %(is_ended)s::boolean
       AND j.finished_at IS NOT NULL
       AND (%(finished_before)s::double precision IS NULL
            OR j.finished_at < pg_catalog.now() - %(finished_before)s::double precision * interval '1 second')
       AND (%(finished_after)s::double precision IS NULL
            OR j.finished_at > pg_catalog.now() - %(finished_after)s::double precision * interval '1 second')
     LIMIT %(depth)s::bigint) AS e),
  (SELECT pg_catalog.count(*) FROM (
     SELECT FROM pgjobs.jobs AS j
     WHERE %(is_failed)s::boolean
       AND (%(fingerprint)s::text[] IS NULL OR j.fingerprint = ANY (%(fingerprint)s::text[]))
       AND (%(error)s::text[] IS NULL
            OR j.fingerprint >= %(error_first)s::text AND j.fingerprint < %(error_last)s::text)
     LIMIT %(depth)s::bigint) AS f),
  (SELECT pg_catalog.count(*) FROM (
     SELECT FROM pgjobs.jobs AS j
     WHERE j.root_id = ANY (%(root)s::text[])
       AND j.root_id <> j.task_id
     LIMIT %(depth)s::bigint) AS c)
