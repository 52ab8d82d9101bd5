-- A task of a header has added another one to it.
INSERT INTO pgjobs.groups AS g (group_id, added)
VALUES (%(group_id)s, 1)
ON CONFLICT (group_id) DO UPDATE
SET added = g.added + 1
