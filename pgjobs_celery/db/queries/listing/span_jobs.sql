-- The ids between which so many rows lie, from one on: how far a list looks that no index leads to. Along
-- the primary key, without the rows themselves: 10 ms for 50,000.
SELECT pg_catalog.min(s.id), pg_catalog.max(s.id), pg_catalog.count(*)
FROM (
  SELECT j.id
  FROM pgjobs.jobs AS j
  WHERE (NOT %(newest)s::boolean OR j.id <= %(start)s::bigint)
    AND (%(newest)s::boolean OR j.id >= %(start)s::bigint)
  ORDER BY CASE WHEN %(newest)s::boolean THEN j.id END DESC,
           CASE WHEN NOT %(newest)s::boolean THEN j.id END
  LIMIT %(limit)s::bigint
) AS s
