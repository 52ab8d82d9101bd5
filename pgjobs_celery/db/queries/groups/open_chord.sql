-- A chord is about to be published, and its header after it. A chord that exists already is the same
-- one, published again by a task that was delivered again (is_repeated); or it is published for a
-- second time, after its first run has ended.
INSERT INTO pgjobs.groups AS g (group_id, body, header, body_type, added)
VALUES (%(group_id)s, %(body)s::bytea, %(header)s::bytea, %(body_type)s, %(added)s::integer)
ON CONFLICT (group_id) DO UPDATE
SET body = excluded.body,
    header = excluded.header,
    body_type = excluded.body_type,
    size = NULL,
    added = excluded.added,
    attempts = 0,
    published_at = NULL,
    inserted_at = pg_catalog.now()
WHERE CASE WHEN g.published_at IS NULL THEN g.body IS NULL ELSE NOT %(is_repeated)s::boolean END
