-- on match_jobs
-- The jobs of a page, in the order of the rows.
SELECT m.id
FROM matched AS m
ORDER BY CASE WHEN %(is_newest)s::boolean THEN m.id END DESC,
         CASE WHEN NOT %(is_newest)s::boolean THEN m.id END
LIMIT %(page)s::bigint
