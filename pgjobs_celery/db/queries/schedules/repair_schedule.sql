-- Replace times that Python cannot hold: the next tick is computed anew, a pause goes on, and the last
-- run is forgotten. Everything that can be read stays.
UPDATE pgjobs.schedules AS s
SET next_run_at = CASE WHEN s.next_run_at BETWEEN t.first AND t.last THEN s.next_run_at
                       ELSE %(next_run_at)s::timestamptz END,
    last_run_at = CASE WHEN s.last_run_at BETWEEN t.first AND t.last THEN s.last_run_at END,
    paused_at = CASE WHEN s.paused_at IS NULL OR s.paused_at BETWEEN t.first AND t.last
                     THEN s.paused_at ELSE pg_catalog.now() END,
    version = pg_catalog.nextval('pgjobs.schedules_version')
FROM (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
WHERE s.app = %(app)s AND s.name = %(name)s
RETURNING s.name
