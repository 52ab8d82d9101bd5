INSERT INTO pgjobs.totals AS t
  (task, queue, exception, kind, bucket, count, micros, recent_count, recent_micros)
SELECT *
FROM unnest(%(tasks)s::text[], %(queues)s::text[], %(exceptions)s::text[], %(kinds)s::text[],
            %(buckets)s::smallint[], %(counts)s::bigint[], %(micros)s::numeric[],
            %(recent_counts)s::bigint[], %(recent_micros)s::numeric[])
ON CONFLICT (task, queue, exception, kind, bucket) DO UPDATE
SET count = t.count + excluded.count,
    micros = t.micros + excluded.micros,
    recent_count = excluded.recent_count,
    recent_micros = excluded.recent_micros
