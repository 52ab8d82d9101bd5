-- What each task, or each queue, did in all buckets together; the busiest first.
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
