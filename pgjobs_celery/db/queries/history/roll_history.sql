-- Add up buckets that are complete now, as the counts have come past their ends: nothing is ever added to
-- them again.
INSERT INTO pgjobs.history
  (kind, width, at, name, succeeded, failed, cancelled, retried, snoozed, rescued, waited, ran, ready,
   running, waits, runs)
SELECT h.kind, %(width)s::integer,
       pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', h.at, '2000-01-01 00:00:00+00'),
       h.name,
       pg_catalog.sum(h.succeeded)::bigint, pg_catalog.sum(h.failed)::bigint,
       pg_catalog.sum(h.cancelled)::bigint, pg_catalog.sum(h.retried)::bigint,
       pg_catalog.sum(h.snoozed)::bigint, pg_catalog.sum(h.rescued)::bigint,
       pg_catalog.sum(h.waited), pg_catalog.sum(h.ran),
       pg_catalog.max(h.ready), pg_catalog.max(h.running),
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
       ]::integer[], NULL),
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
       ]::integer[], NULL)
FROM pgjobs.history AS h
WHERE h.kind = ANY('{all,task,queue}'::text[])
  AND h.width = %(parts)s::integer
  AND h.at >= pg_catalog.date_bin(
        %(width)s::integer::float8 * interval '1 second', %(since)s::timestamptz, '2000-01-01 00:00:00+00')
  AND h.at < pg_catalog.date_bin(
        %(width)s::integer::float8 * interval '1 second', %(until)s::timestamptz, '2000-01-01 00:00:00+00')
  AND h.is_final
GROUP BY 1, 3, 4
ON CONFLICT (kind, width, at, name, is_final) DO NOTHING
