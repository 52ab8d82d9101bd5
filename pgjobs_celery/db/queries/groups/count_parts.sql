-- How many tasks of a chord's header have not finished; NULL while its size is not known, or once its
-- body was published; no row if the chord is not known at all. A worker that finishes a task of the
-- header asks this after the commit, so that the last one sees all the others.
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
