-- The buckets of one task, of one queue, or of all jobs: the wide ones, and the minutes of those that are
-- not complete. An entry of the index for each, 5 µs.
WITH edge AS MATERIALIZED (
  -- Before the edge the wide buckets are complete; what is later stands in minutes.
  SELECT pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', f.watermark, '2000-01-01 00:00:00+00') AS at,
         pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', pg_catalog.now(), '2000-01-01 00:00:00+00')
           - ((%(buckets)s::integer - 1) * %(width)s::integer)::float8 * interval '1 second' AS since
  FROM pgjobs.fold AS f
), found AS (
  SELECT h.*
  FROM edge AS e
  CROSS JOIN LATERAL pg_catalog.generate_series(
    e.since, least(e.at, pg_catalog.now()), %(width)s::integer::float8 * interval '1 second') AS g (at)
  CROSS JOIN LATERAL (
    SELECT * FROM pgjobs.history AS b
    WHERE b.kind = %(kind)s::text AND b.width = %(width)s::integer AND b.at = g.at AND b.name = %(name)s::text
    ORDER BY b.is_final LIMIT 2
  ) AS h
  WHERE g.at < e.at
  UNION ALL
  SELECT h.*
  FROM edge AS e
  CROSS JOIN LATERAL pg_catalog.generate_series(
    greatest(e.at, e.since), pg_catalog.now() + interval '1 minute', interval '1 minute') AS g (at)
  CROSS JOIN LATERAL (
    SELECT * FROM pgjobs.history AS b
    WHERE b.kind = %(kind)s::text AND b.width = 60 AND b.at = g.at AND b.name = %(name)s::text
    ORDER BY b.is_final LIMIT 2
  ) AS h
)
SELECT pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', f.at, '2000-01-01 00:00:00+00'),
       f.succeeded, f.failed, f.cancelled, f.retried, f.snoozed, f.rescued, f.waited, f.ran,
       f.waits, f.runs, f.ready, f.running
FROM found AS f
