-- A line for each task or queue of which so many failed at least, for a small chart: of each step how many
-- ended, how many of these failed, and how many waited at most.
WITH edge AS MATERIALIZED (
  -- Before the edge the wide buckets are complete; what is later stands in narrower ones.
  SELECT pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', f.watermark, '2000-01-01 00:00:00+00') AS at,
         pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', pg_catalog.now(), '2000-01-01 00:00:00+00')
           - ((%(buckets)s::integer - 1) * %(width)s::integer)::float8 * interval '1 second' AS since,
         pg_catalog.date_bin('10 minutes', f.watermark, '2000-01-01 00:00:00+00') AS tens
  FROM pgjobs.fold AS f
), found AS (
  SELECT h.*
  FROM edge AS e
  JOIN pgjobs.history AS h
    ON h.kind = %(kind)s::text AND h.width = %(width)s::integer AND h.at >= e.since AND h.at < e.at
  UNION ALL
  SELECT h.*
  FROM edge AS e
  JOIN pgjobs.history AS h
    ON h.kind = %(kind)s::text AND h.width = 600 AND h.at >= greatest(e.at, e.since) AND h.at < e.tens
  UNION ALL
  SELECT h.*
  FROM edge AS e
  JOIN pgjobs.history AS h
    ON h.kind = %(kind)s::text AND h.width = 60 AND h.at >= greatest(e.at, e.tens, e.since)
), buckets AS (
  SELECT h.name,
         pg_catalog.date_bin(%(step)s::integer::float8 * interval '1 second', h.at, '2000-01-01 00:00:00+00') AS at,
         pg_catalog.sum(h.succeeded + h.failed)::bigint AS ended,
         pg_catalog.sum(h.failed)::bigint AS failed,
         pg_catalog.max(h.ready) AS ready
  FROM found AS h
  GROUP BY 1, 2
)
SELECT b.name, pg_catalog.array_agg(extract(epoch FROM b.at)::bigint), pg_catalog.array_agg(b.ended),
       pg_catalog.array_agg(b.failed), pg_catalog.array_agg(b.ready)
FROM buckets AS b
GROUP BY b.name
HAVING pg_catalog.sum(b.failed) >= %(failures)s::bigint
