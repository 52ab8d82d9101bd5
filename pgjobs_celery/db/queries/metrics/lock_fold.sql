-- One process folds at a time, and whoever comes while it does goes on: it comes again soon. Where the row
-- was lost, as after TRUNCATE, begin_fold makes it anew.
SELECT f.watermark::text, f.candidate::text, f.holders,
       extract(epoch FROM pg_catalog.clock_timestamp() - f.candidate)::float8,
       f.folded_at <= pg_catalog.clock_timestamp() - greatest(
           %(interval)s::float8, f.folding * %(pace)s::float8) * interval '1 second'
         OR f.folded_at > pg_catalog.clock_timestamp() + interval '1 minute',
       f.counted_at <= pg_catalog.clock_timestamp() - greatest(
           %(interval)s::float8, f.counting * %(pace)s::float8) * interval '1 second'
         OR f.counted_at > pg_catalog.clock_timestamp() + interval '1 minute'
FROM pgjobs.fold AS f
FOR UPDATE SKIP LOCKED
