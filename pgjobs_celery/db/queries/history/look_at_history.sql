-- The present bucket, when ends and lines were counted last, and since when they have been.
SELECT pg_catalog.date_bin(%(width)s::integer::float8 * interval '1 second', pg_catalog.now(), '2000-01-01 00:00:00+00'), pg_catalog.now(),
       CASE WHEN pg_catalog.isfinite(f.folded_at) THEN f.folded_at END,
       CASE WHEN pg_catalog.isfinite(f.counted_at) THEN f.counted_at END,
       (SELECT h.at FROM pgjobs.history AS h
        WHERE h.kind = 'all' AND h.width = %(width)s::integer
        ORDER BY h.at LIMIT 1)
FROM pgjobs.fold AS f
