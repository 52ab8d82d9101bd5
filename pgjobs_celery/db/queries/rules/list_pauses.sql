-- The pauses of tasks, tags and keys that hold. Times that Python cannot hold become the nearest that it can.
SELECT p.kind, p.name, p.queue, least(greatest(p.paused_at, '0001-01-03'), '9999-12-29'),
       CASE WHEN p.until IS NOT NULL THEN least(greatest(p.until, '0001-01-03'), '9999-12-29') END
FROM pgjobs.pauses AS p
WHERE p.until IS NULL
   OR p.until > pg_catalog.now()
ORDER BY p.kind, p.queue, p.name
LIMIT %(limit)s::bigint
