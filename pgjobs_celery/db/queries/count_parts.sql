-- How many tasks of a chord's header have not finished; nothing while its size is not known, or once
-- its body was published. Whoever finishes a task of it asks this after the commit, so that whoever is
-- the last sees all the others.
SELECT g.size + g.added - (
  SELECT pg_catalog.count(*)
  FROM pgjobs.jobs AS j
  WHERE j.group_id = g.group_id
    AND j.group_index IS NOT NULL
    AND j.finished_at IS NOT NULL)
FROM pgjobs.groups AS g
WHERE g.group_id = %(group_id)s
  AND g.size IS NOT NULL
  AND g.published_at IS NULL
