-- The job that stands in the way of one that must be the only one of its kind: one with its id, or one
-- with its key for as long as that counts.
SELECT h.task_id, h.state
FROM pgjobs.jobs AS h
WHERE h.unique_key = %(unique_key)s::bytea
  AND h.task_id <> %(task_id)s
  AND h.state = ANY (%(states)s::text[])
  AND (h.inserted_at <= pg_catalog.now() - %(period)s::double precision * interval '1 second') IS NOT TRUE
UNION ALL
SELECT i.task_id, i.state
FROM pgjobs.jobs AS i
WHERE i.task_id = %(task_id)s
LIMIT 1
