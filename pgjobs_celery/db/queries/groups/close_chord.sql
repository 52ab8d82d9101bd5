-- Close a chord: its body was published, or failed with its header.
UPDATE pgjobs.groups AS g
SET published_at = pg_catalog.now(),
    body = NULL,
    header = NULL,
    body_type = NULL
WHERE g.group_id = %(group_id)s
