-- A line for each task or queue of which so many failed at least, for a small chart: of each step how many
-- ended, how many of these failed, and how many waited at most.
WITH edge AS MATERIALIZED (
  -- Where the buckets end that are complete, by their width; and where the wide ones begin.
  SELECT s.since,
         pg_catalog.date_bin(
           %(big)s::integer::float8 * interval '1 second',
           s.since + (%(big)s::integer - 1)::float8 * interval '1 second', '2000-01-01 00:00:00+00') AS begin,
         pg_catalog.date_bin(%(big)s::integer::float8 * interval '1 second', f.watermark, '2000-01-01 00:00:00+00') AS big,
         pg_catalog.date_bin('1 hour', f.watermark, '2000-01-01 00:00:00+00') AS hours,
         pg_catalog.date_bin('10 minutes', f.watermark, '2000-01-01 00:00:00+00') AS tens
  FROM pgjobs.fold AS f
  CROSS JOIN (
    SELECT pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', pg_catalog.now(), '2000-01-01 00:00:00+00')
           - ((%(buckets)s::integer - 1) * %(width)s::integer)::float8 * interval '1 second' AS since
  ) AS s
), tiles AS MATERIALIZED (
  -- The fewest buckets that cover the time: the wide ones, and what is left before and after them.
  SELECT %(width)s::integer AS width, e.since AS since,
         CASE WHEN e.big >= e.begin THEN e.begin ELSE e.since END AS until
  FROM edge AS e
  UNION ALL
  SELECT %(big)s::integer, e.begin, e.big FROM edge AS e
  UNION ALL
  SELECT 3600, greatest(e.big, e.since), e.hours FROM edge AS e WHERE %(big)s::integer > 3600
  UNION ALL
  SELECT 600, greatest(e.big, e.hours, e.since), e.tens FROM edge AS e WHERE %(big)s::integer > 600
  UNION ALL
  SELECT 60, greatest(e.big, e.tens, e.since), 'infinity' FROM edge AS e
), found AS (
  SELECT h.*
  FROM tiles AS t
  CROSS JOIN LATERAL (
    SELECT *
    FROM pgjobs.history AS b
    WHERE b.kind = %(kind)s::text AND b.width = t.width AND b.at >= t.since AND b.at < t.until
    OFFSET 0
  ) AS h
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
HAVING pg_catalog.sum(b.failed)::bigint >= %(failures)s::bigint
