-- Which tasks and queues have a place in the history; asked only when a name comes up that the process does
-- not know. 500 of each: up to 100 ms.
SELECT DISTINCT h.kind, h.name
FROM pgjobs.history AS h
WHERE h.kind = ANY('{task,queue}'::text[])
  AND h.width = ANY('{60,600}'::integer[])
