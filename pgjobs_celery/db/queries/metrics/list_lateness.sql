-- The entries of each app that are not paused, and for how long the latest has been due, in seconds.
SELECT s.app, pg_catalog.count(*),
       pg_catalog.count(*) FILTER (WHERE s.paused_at IS NOT NULL),
       coalesce(greatest(0::float8, extract(epoch FROM pg_catalog.now() - pg_catalog.min(s.next_run_at)
         FILTER (WHERE s.paused_at IS NULL AND pg_catalog.isfinite(s.next_run_at)))::float8), 0::float8)
FROM pgjobs.schedules AS s
GROUP BY s.app
ORDER BY s.app
LIMIT %(limit)s::bigint
