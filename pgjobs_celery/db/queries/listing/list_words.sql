-- What stands in the newest rows, to suggest filters; of small bodies only. What is small as it is stored
-- may be large still: it is compressed there.
SELECT j.task, j.queue,
       ARRAY(SELECT g.tag FROM pg_catalog.unnest(j.tags) AS g (tag) WHERE g.tag IS NOT NULL), j.attempted_by,
       CASE WHEN pg_catalog.octet_length(j.body) <= 4096 THEN (pgjobs.body_json(j.body) -> 1)::text END,
       CASE WHEN pg_catalog.pg_column_size(j.meta) <= 2048 AND pg_catalog.octet_length(j.meta::text) <= 2048
            THEN j.meta::text END
FROM pgjobs.jobs AS j
ORDER BY j.id DESC
LIMIT %(depth)s::bigint
