-- Pause the jobs of a task, with a tag or of a key. One that is paused again counts as paused since the first
-- time, and until the time that was given last; a pause whose time is over begins anew. True if it was not
-- paused.
INSERT INTO pgjobs.pauses AS p (kind, name, queue, paused_at, until)
VALUES (%(kind)s, %(name)s, %(queue)s, pg_catalog.now(),
        coalesce(%(until)s::timestamptz, pg_catalog.now() + %(seconds)s::float8 * interval '1 second'))
ON CONFLICT (kind, name, queue) DO UPDATE
SET paused_at = CASE WHEN p.until <= pg_catalog.now() THEN excluded.paused_at ELSE p.paused_at END,
    until = excluded.until
RETURNING p.paused_at = pg_catalog.now()
