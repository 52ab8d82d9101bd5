-- What has ended since the watermark, and what was written down: the groups to add to the totals, final
-- where no transaction can add to them any more. By jobs_finished, which is there for pruning: each end is
-- read two or three times, 5 to 15 microseconds each. One statement, one snapshot: an end is in a
-- row, or written down.
WITH undone AS (
  DELETE FROM pgjobs.tally AS t
  RETURNING t.task, t.queue, t.state, t.exception, t.scheduled_at, t.attempted_at, t.finished_at
), ends AS (
  SELECT j.task, j.queue, j.state,
         CASE WHEN j.state = 'discarded' THEN j.errors -> -1 ->> 'type'::text END AS exception,
         j.scheduled_at, j.attempted_at, j.finished_at,
         j.finished_at < %(until)s::timestamptz AS is_final
  FROM pgjobs.jobs AS j
  WHERE j.finished_at >= %(since)s::timestamptz
    AND j.finished_at IS NOT NULL
    -- Not an id that was revoked and never published.
    AND j.task <> ''
  UNION ALL
  SELECT u.task, u.queue, u.state, u.exception, u.scheduled_at, u.attempted_at, u.finished_at, true
  FROM undone AS u
  -- Before the watermark it was counted while its row was there.
  WHERE u.finished_at IS NULL
     OR u.finished_at >= %(since)s::timestamptz
), measured AS (
  SELECT e.task, e.queue, e.state, e.exception, e.is_final,
         e.finished_at IS NOT NULL AND e.attempted_at IS NOT NULL AS has_run,
         -- A retry was written down by its transaction, just now; an end that is to come has no minute.
         CASE WHEN e.finished_at IS NULL THEN greatest(pg_catalog.now(), %(since)s::timestamptz)
              WHEN e.finished_at <= pg_catalog.now() + interval '1 minute' THEN e.finished_at END AS at,
         -- PostgreSQL 16 and older cannot subtract from infinity. At most 10 years.
         CASE WHEN pg_catalog.isfinite(e.attempted_at) AND pg_catalog.isfinite(e.finished_at)
              THEN least(greatest(extract(epoch FROM e.finished_at - e.attempted_at), 0), 315576000)::float8
              ELSE 0::float8 END AS runtime,
         CASE WHEN pg_catalog.isfinite(e.scheduled_at) AND pg_catalog.isfinite(e.attempted_at)
              THEN least(greatest(extract(epoch FROM e.attempted_at - e.scheduled_at), 0), 315576000)::float8
              ELSE 0::float8 END AS wait
  FROM ends AS e
)
SELECT pg_catalog.left(m.task, 200), pg_catalog.left(m.queue, 200), m.state,
       pg_catalog.left(coalesce(m.exception, ''), 100), m.is_final, m.has_run,
       pg_catalog.width_bucket(m.runtime, %(bounds)s::float8[]),
       pg_catalog.width_bucket(m.wait, %(bounds)s::float8[]),
       pg_catalog.count(*),
       least(pg_catalog.sum((m.runtime * 1000000::float8)::bigint), 9000000000000000000)::bigint,
       least(pg_catalog.sum((m.wait * 1000000::float8)::bigint), 9000000000000000000)::bigint,
       coalesce(extract(epoch FROM pg_catalog.date_bin('1 minute', m.at, '2000-01-01 00:00:00+00'))::bigint, 0::bigint)
FROM measured AS m
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, pg_catalog.date_bin('1 minute', m.at, '2000-01-01 00:00:00+00')
