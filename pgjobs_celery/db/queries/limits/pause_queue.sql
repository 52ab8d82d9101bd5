-- Pause a queue; true if it was not paused yet, or until another time: one that is paused again counts as paused
-- since the first time, and until the time that was given last.
WITH former AS MATERIALIZED (
  SELECT l.paused_until FROM pgjobs.limits AS l WHERE l.queue = %(queue)s
)
INSERT INTO pgjobs.limits AS l (queue, paused_at, paused_until)
VALUES (%(queue)s, pg_catalog.now(),
        coalesce(%(until)s::timestamptz, pg_catalog.now() + %(seconds)s::float8 * interval '1 second'))
ON CONFLICT (queue) DO UPDATE
SET paused_at = coalesce(l.paused_at, excluded.paused_at),
    paused_until = excluded.paused_until
RETURNING l.paused_at = pg_catalog.now()
          OR l.paused_until IS DISTINCT FROM (SELECT f.paused_until FROM former AS f)
