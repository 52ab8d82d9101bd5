-- The last task of a header is about to be published, which makes its size known.
INSERT INTO pgjobs.groups AS g (group_id, size)
VALUES (%(group_id)s, %(size)s::integer)
ON CONFLICT (group_id) DO UPDATE
SET size = excluded.size
WHERE g.published_at IS NULL
