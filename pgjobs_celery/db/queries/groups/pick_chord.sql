-- One of these groups that is the header of a chord which a publisher opened here; no row if none is.
-- A worker whose results go elsewhere asks this of what it runs, a batch of groups at a time: by the
-- primary key, in its maintenance thread.
SELECT g.group_id
FROM pgjobs.groups AS g
WHERE g.group_id = ANY(%(group_ids)s::text[])
  AND (g.size IS NOT NULL OR g.body IS NOT NULL)
LIMIT 1
