UPDATE pgjobs.fold AS f
SET watermark = greatest(f.watermark, %(watermark)s::timestamptz),
    candidate = %(candidate)s::timestamptz,
    holders = %(holders)s::text[],
    folded_at = pg_catalog.clock_timestamp(),
    folding = extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.now())::float8
