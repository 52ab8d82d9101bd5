-- The time by the server's clock, and whether anything has changed but ticks: each change gives an
-- entry a number that none had.
SELECT clock_timestamp(), count(*), coalesce(sum(s.version), 0)::bigint
FROM pgjobs.schedules AS s
WHERE s.app = %(app)s
