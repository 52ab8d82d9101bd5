-- Still in use: keeps queues that would go otherwise.
UPDATE pgjobs.queues AS q
SET used_at = now()
WHERE q.name = ANY (%(names)s::text[])
