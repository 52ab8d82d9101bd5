-- Store a group for GroupResult.save(). A second save replaces the first and restarts its age.
INSERT INTO pgjobs.groups AS g (group_id, result, result_type)
VALUES (%(group_id)s, %(result)s::bytea, %(result_type)s)
ON CONFLICT (group_id) DO UPDATE
SET result = excluded.result,
    result_type = excluded.result_type,
    inserted_at = pg_catalog.now()
