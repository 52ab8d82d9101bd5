-- What GroupResult.save() keeps. Once more is what counts from now on, and starts its age anew.
INSERT INTO pgjobs.groups AS g (group_id, result, result_type)
VALUES (%(group_id)s, %(result)s::bytea, %(result_type)s)
ON CONFLICT (group_id) DO UPDATE
SET result = excluded.result,
    result_type = excluded.result_type,
    inserted_at = pg_catalog.now()
