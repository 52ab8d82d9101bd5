-- After all that was parked is back in line; not one that was begun anew.
DELETE FROM pgjobs.pauses AS p
USING unnest(%(kinds)s::text[], %(names)s::text[], %(queues)s::text[]) AS e (kind, name, queue)
WHERE p.kind = e.kind
  AND p.name = e.name
  AND p.queue = e.queue
  AND p.until <= pg_catalog.now()
