-- Read a group that GroupResult.save() has stored.
SELECT g.result, g.result_type
FROM pgjobs.groups AS g
WHERE g.group_id = %(group_id)s
  AND g.result IS NOT NULL
