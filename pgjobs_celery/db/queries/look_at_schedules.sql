-- The time by the server's clock, and whether anything has changed but ticks: each change gives an
-- entry a number that none had. As text, for the sum of what somebody has written by hand may be beyond
-- a bigint.
SELECT clock_timestamp(), count(*), coalesce(sum(s.version), 0)::text
FROM pgjobs.schedules AS s
WHERE s.app = %(app)s
