-- What is to be published after each of these jobs, as its message says: the third part of its body, where
-- that is plain JSON and no larger than that. It has the signatures of the rest of a chain and of a chord's
-- body, with their arguments.
SELECT j.task_id, (pgjobs.body_json(j.body) -> 2)::text
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(ids)s::text[])))
  AND pg_catalog.octet_length(j.body) <= %(most)s::bigint
