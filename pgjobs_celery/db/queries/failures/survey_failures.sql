-- The problems that jobs stand at, of those that failed in a span of time: so many of the newest failures are
-- looked at, along jobs_failed, and each problem's first time and newest job are found by jobs_fingerprint.
-- 35 ms for 10,000 failures of 300 problems.
WITH looked AS MATERIALIZED (
  SELECT j.fingerprint, j.task, j.queue, j.state, j.failed_at
  FROM pgjobs.jobs AS j
  WHERE j.failed_at > %(since)s::timestamptz
    AND j.failed_at <= least(%(until)s::timestamptz, pg_catalog.now())
  ORDER BY j.failed_at DESC
  LIMIT %(depth)s::bigint
), span AS MATERIALIZED (
  SELECT extract(epoch FROM pg_catalog.min(l.failed_at))::float8 - 1::float8 AS lowest,
         extract(epoch FROM least(%(until)s::timestamptz, pg_catalog.now()))::float8 AS highest,
         pg_catalog.min(l.failed_at) AS oldest, pg_catalog.count(*) AS jobs
  FROM looked AS l
), found AS MATERIALIZED (
  SELECT l.fingerprint, l.task, l.queue, l.state, l.failed_at,
         least(pg_catalog.width_bucket(
           extract(epoch FROM l.failed_at)::float8,
           -- From the beginning of the span, unless less of it was looked at.
           CASE WHEN s.jobs < %(depth)s::bigint AND %(since)s::timestamptz > '0001-01-05'::timestamptz
                THEN extract(epoch FROM %(since)s::timestamptz)::float8 ELSE s.lowest END,
           s.highest, %(bars)s::integer), %(bars)s::integer) AS bar
  FROM looked AS l
  CROSS JOIN span AS s
  WHERE l.fingerprint IS NOT NULL
    AND (%(tasks)s::text[] IS NULL OR l.task = ANY (%(tasks)s::text[]))
    AND (%(queues)s::text[] IS NULL OR l.queue = ANY (%(queues)s::text[]))
    AND (%(errors)s::text[] IS NULL OR pg_catalog.left(l.fingerprint, -11) = ANY (%(errors)s::text[]))
), bars AS (
  SELECT f.fingerprint, f.bar, pg_catalog.count(*) AS jobs FROM found AS f GROUP BY f.fingerprint, f.bar
), series AS MATERIALIZED (
  SELECT b.fingerprint, pg_catalog.json_object_agg(b.bar::text, b.jobs)::text AS bars
  FROM bars AS b
  GROUP BY b.fingerprint
), problems AS MATERIALIZED (
  SELECT f.fingerprint, pg_catalog.count(*) AS jobs,
         pg_catalog.count(*) FILTER (WHERE f.state = 'discarded') AS discarded,
         pg_catalog.count(*) FILTER (WHERE f.state = 'retryable') AS retryable,
         pg_catalog.min(f.failed_at) AS first, pg_catalog.max(f.failed_at) AS last,
         pg_catalog.array_agg(DISTINCT f.task) AS tasks, pg_catalog.array_agg(DISTINCT f.queue) AS queues,
         pg_catalog.count(*) OVER () AS problems
  FROM found AS f
  GROUP BY f.fingerprint
  ORDER BY pg_catalog.max(f.failed_at) DESC
  LIMIT %(limit)s::bigint
)
SELECT p.fingerprint, p.jobs, p.discarded, p.retryable, p.first, p.last,
       greatest(e.failed_at, '0001-01-03'::timestamptz), p.tasks[1:20], p.queues[1:20], r.bars,
       n.task_id, n.attempted_by, n.error, p.problems
FROM problems AS p
JOIN series AS r ON r.fingerprint = p.fingerprint
CROSS JOIN LATERAL (
  SELECT j.failed_at
  FROM pgjobs.jobs AS j
  WHERE j.fingerprint = p.fingerprint AND j.failed_at IS NOT NULL
  ORDER BY j.failed_at
  LIMIT 1
) AS e
CROSS JOIN LATERAL (
  SELECT j.task_id, j.attempted_by,
         -- What takes long to read has a page of its own: also what is small as it is stored, compressed.
         CASE WHEN pg_catalog.pg_column_size(j.errors) < 100000
                   AND pg_catalog.jsonb_typeof(j.errors -> -1) = 'object'
                   AND pg_catalog.octet_length((j.errors -> -1)::text) < 100000
              THEN ((j.errors -> -1) - 'traceback'::text)::text END AS error
  FROM pgjobs.jobs AS j
  WHERE j.fingerprint = p.fingerprint AND j.failed_at <= p.last
  ORDER BY j.failed_at DESC
  LIMIT 1
) AS n
