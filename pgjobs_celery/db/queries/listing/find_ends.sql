-- on match_jobs
-- The jobs of a page in the order in which they have finished, behind one of them. By the time and the row:
-- of two that finished at the same moment none is left out.
SELECT k.id, k.finished_at
FROM matched AS m
JOIN pgjobs.jobs AS k ON k.id = m.id
WHERE k.finished_at BETWEEN '0001-01-03' AND '9999-12-29'
  AND CASE WHEN %(is_newest)s::boolean
           THEN (k.finished_at, k.id) < (%(at)s::timestamptz, %(row)s::bigint)
           ELSE (k.finished_at, k.id) > (%(at)s::timestamptz, %(row)s::bigint) END
ORDER BY CASE WHEN %(is_newest)s::boolean THEN k.finished_at END DESC,
         CASE WHEN %(is_newest)s::boolean THEN k.id END DESC,
         CASE WHEN NOT %(is_newest)s::boolean THEN k.finished_at END,
         CASE WHEN NOT %(is_newest)s::boolean THEN k.id END
LIMIT %(page)s::bigint
