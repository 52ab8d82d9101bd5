-- The time by the server's clock, and whether anything but ticks has changed: each change gives an
-- entry a number that none had. As text, because the sum of values written by hand may be beyond a
-- bigint.
SELECT pg_catalog.clock_timestamp(), pg_catalog.count(*), coalesce(pg_catalog.sum(s.version), 0)::text
FROM pgjobs.schedules AS s
WHERE s.app = %(app)s
