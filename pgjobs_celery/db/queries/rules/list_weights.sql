-- The weights that are not 1, by key.
SELECT w.key, w.weight
FROM pgjobs.weights AS w
WHERE w.queue = %(queue)s
ORDER BY w.key
LIMIT %(limit)s::bigint
