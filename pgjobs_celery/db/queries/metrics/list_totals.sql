-- A row for each name, kind and bucket: as many as the configuration allows, some thousand. 4 ms for 10,000.
SELECT t.task, t.queue, t.exception, t.kind, t.bucket::integer,
       t.count + t.recent_count, t.micros + t.recent_micros
FROM pgjobs.totals AS t
ORDER BY t.task, t.queue, t.exception, t.kind, t.bucket
