-- Pause an entry: its ticks are not published from now on. An entry that is paused already keeps the
-- time since when, and returns false.
UPDATE pgjobs.schedules
SET paused_at = coalesce(paused_at, pg_catalog.now()),
    version = pg_catalog.nextval('pgjobs.schedules_version')
WHERE app = %(app)s AND name = %(name)s
RETURNING paused_at = pg_catalog.now()
