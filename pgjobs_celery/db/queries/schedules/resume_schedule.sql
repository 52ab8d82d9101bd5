-- Resume an entry. Ticks that fell into the pause are not missed ones: it goes on with the next tick.
UPDATE pgjobs.schedules
SET paused_at = NULL,
    next_run_at = %(next_run_at)s::timestamptz,
    version = pg_catalog.nextval('pgjobs.schedules_version')
WHERE app = %(app)s AND name = %(name)s AND paused_at IS NOT NULL
RETURNING name
