-- A row for each name and kind, its buckets side by side: as many as the configuration allows. 500 pairs of
-- task and queue with full histograms: 15 ms.
SELECT t.task, t.queue, t.exception, t.kind,
       pg_catalog.array_agg(t.bucket::integer),
       pg_catalog.array_agg((t.count + t.recent_count)::bigint),
       pg_catalog.sum(t.micros + t.recent_micros)
FROM pgjobs.totals AS t
GROUP BY t.task, t.queue, t.exception, t.kind
