-- The times between which so many jobs have finished, from one on. Along jobs_finished, without the rows
-- themselves.
SELECT pg_catalog.min(s.finished_at), pg_catalog.max(s.finished_at), pg_catalog.count(*)
FROM (
  SELECT j.finished_at
  FROM pgjobs.jobs AS j
  WHERE j.finished_at BETWEEN '0001-01-03' AND '9999-12-29'
    AND (NOT %(newest)s::boolean OR %(is_behind)s::boolean OR j.finished_at <= %(start)s::timestamptz)
    AND (NOT %(newest)s::boolean OR NOT %(is_behind)s::boolean OR j.finished_at < %(start)s::timestamptz)
    AND (%(newest)s::boolean OR %(is_behind)s::boolean OR j.finished_at >= %(start)s::timestamptz)
    AND (%(newest)s::boolean OR NOT %(is_behind)s::boolean OR j.finished_at > %(start)s::timestamptz)
  ORDER BY CASE WHEN %(newest)s::boolean THEN j.finished_at END DESC,
           CASE WHEN NOT %(newest)s::boolean THEN j.finished_at END
  LIMIT %(limit)s::bigint
) AS s
