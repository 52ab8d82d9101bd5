-- How many tasks of a chord's header have not finished; NULL while its size is unknown, or once its
-- body was published; nothing if the chord is unknown. A worker that finishes a task of the header
-- asks this after the commit, so that the last one sees all the others.
SELECT CASE WHEN g.published_at IS NULL THEN
  g.size + g.added - (
    SELECT pg_catalog.count(*)
    FROM pgjobs.jobs AS j
    WHERE j.group_id = g.group_id
      AND j.group_index IS NOT NULL
      AND j.finished_at IS NOT NULL)
  END
FROM pgjobs.groups AS g
WHERE g.group_id = %(group_id)s
