-- For people who have the beginning of an id: an index on it is in the order of a language, in which a
-- prefix is not a range. Reads every retained row, about 0.3 s per million.
SELECT j.task_id
FROM pgjobs.jobs AS j
WHERE pg_catalog.starts_with(j.task_id, %(beginning)s::text)
LIMIT %(limit)s::bigint
