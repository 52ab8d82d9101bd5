-- What each task, or each queue, did in all buckets together; the busiest first.
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
)
SELECT h.name,
       pg_catalog.sum(h.succeeded)::bigint, pg_catalog.sum(h.failed)::bigint,
       pg_catalog.sum(h.cancelled)::bigint, pg_catalog.sum(h.retried)::bigint,
       pg_catalog.sum(h.snoozed)::bigint, pg_catalog.sum(h.rescued)::bigint,
       pg_catalog.sum(h.waited), pg_catalog.sum(h.ran),
       pg_catalog.array_remove(ARRAY[
         pg_catalog.sum(h.waits[1]), pg_catalog.sum(h.waits[2]), pg_catalog.sum(h.waits[3]),
         pg_catalog.sum(h.waits[4]), pg_catalog.sum(h.waits[5]), pg_catalog.sum(h.waits[6]),
         pg_catalog.sum(h.waits[7]), pg_catalog.sum(h.waits[8]), pg_catalog.sum(h.waits[9]),
         pg_catalog.sum(h.waits[10]), pg_catalog.sum(h.waits[11]), pg_catalog.sum(h.waits[12]),
         pg_catalog.sum(h.waits[13]), pg_catalog.sum(h.waits[14]), pg_catalog.sum(h.waits[15]),
         pg_catalog.sum(h.waits[16]), pg_catalog.sum(h.waits[17]), pg_catalog.sum(h.waits[18]),
         pg_catalog.sum(h.waits[19]), pg_catalog.sum(h.waits[20]), pg_catalog.sum(h.waits[21]),
         pg_catalog.sum(h.waits[22]), pg_catalog.sum(h.waits[23]), pg_catalog.sum(h.waits[24]),
         pg_catalog.sum(h.waits[25]), pg_catalog.sum(h.waits[26])
       ], NULL),
       pg_catalog.array_remove(ARRAY[
         pg_catalog.sum(h.runs[1]), pg_catalog.sum(h.runs[2]), pg_catalog.sum(h.runs[3]),
         pg_catalog.sum(h.runs[4]), pg_catalog.sum(h.runs[5]), pg_catalog.sum(h.runs[6]),
         pg_catalog.sum(h.runs[7]), pg_catalog.sum(h.runs[8]), pg_catalog.sum(h.runs[9]),
         pg_catalog.sum(h.runs[10]), pg_catalog.sum(h.runs[11]), pg_catalog.sum(h.runs[12]),
         pg_catalog.sum(h.runs[13]), pg_catalog.sum(h.runs[14]), pg_catalog.sum(h.runs[15]),
         pg_catalog.sum(h.runs[16]), pg_catalog.sum(h.runs[17]), pg_catalog.sum(h.runs[18]),
         pg_catalog.sum(h.runs[19]), pg_catalog.sum(h.runs[20]), pg_catalog.sum(h.runs[21]),
         pg_catalog.sum(h.runs[22]), pg_catalog.sum(h.runs[23]), pg_catalog.sum(h.runs[24]),
         pg_catalog.sum(h.runs[25]), pg_catalog.sum(h.runs[26])
       ], NULL),
       pg_catalog.max(h.ready), pg_catalog.max(h.running)
FROM found AS h
GROUP BY h.name
ORDER BY pg_catalog.sum(h.succeeded + h.failed + h.cancelled + h.retried) DESC, h.name
LIMIT %(limit)s::integer
