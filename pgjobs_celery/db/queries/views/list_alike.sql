-- Jobs like this one: that failed by the same problem, by the index of that; and among so many of the newest
-- ends those of its task with the same message body or a tag in common. A body is compared where it is as
-- long, and no longer than that. One that is found twice comes twice.
WITH this AS MATERIALIZED (
  SELECT j.id, j.task, j.fingerprint, j.body, j.tags
  FROM pgjobs.jobs AS j
  WHERE j.task_id = %(task_id)s
), alike AS MATERIALIZED (
  SELECT s.task_id, s.state, s.at, true AS has_error, s.body = t.body AS has_arguments,
         s.tags OPERATOR(pg_catalog.&&) t.tags AS has_tags
  FROM this AS t
  CROSS JOIN LATERAL (
    SELECT o.task_id, o.state, coalesce(o.finished_at, o.failed_at) AS at, o.tags,
           CASE WHEN pg_catalog.octet_length(o.body) <= %(most)s::bigint THEN o.body END AS body
    FROM pgjobs.jobs AS o
    WHERE o.fingerprint = t.fingerprint
      AND o.fingerprint IS NOT NULL
      AND o.id <> t.id
    ORDER BY o.failed_at DESC
    LIMIT %(limit)s::bigint
  ) AS s
  UNION ALL
  SELECT e.task_id, e.state, e.finished_at, coalesce(e.fingerprint = t.fingerprint, false),
         CASE WHEN pg_catalog.octet_length(e.body) = pg_catalog.octet_length(t.body)
                   AND pg_catalog.octet_length(t.body) <= %(most)s::bigint
              THEN e.body = t.body ELSE false END,
         e.tags OPERATOR(pg_catalog.&&) t.tags
  FROM this AS t
  CROSS JOIN LATERAL (
    SELECT o.id, o.task_id, o.task, o.state, o.finished_at, o.fingerprint, o.body, o.tags
    FROM pgjobs.jobs AS o
    WHERE o.finished_at <= pg_catalog.now()
      AND pg_catalog.isfinite(o.finished_at)
    ORDER BY o.finished_at DESC
    LIMIT %(depth)s::bigint
  ) AS e
  WHERE e.task = t.task
    AND e.id <> t.id
)
SELECT a.task_id, a.state, a.has_error, coalesce(a.has_arguments, false), coalesce(a.has_tags, false),
       least(greatest(a.at, '0001-01-03'), '9999-12-29')
FROM alike AS a
WHERE a.has_error OR a.has_arguments OR a.has_tags
ORDER BY a.has_error::integer + coalesce(a.has_arguments, false)::integer DESC, a.at DESC
LIMIT 2 * %(limit)s::bigint
