-- What the publishers of these jobs have written of their arguments for people: Celery's own, as a rule.
SELECT j.task_id, e.message #>> '{headers,argsrepr}'::text[], e.message #>> '{headers,kwargsrepr}'::text[]
FROM pgjobs.jobs AS j
CROSS JOIN LATERAL (
  SELECT CASE WHEN pg_catalog.octet_length(j.message) <= %(most)s::bigint
              THEN pgjobs.body_json(pg_catalog.convert_to(j.message, 'UTF8')) END AS message OFFSET 0
) AS e
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(ids)s::text[])))
