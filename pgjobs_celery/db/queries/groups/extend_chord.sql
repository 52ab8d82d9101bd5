-- Count one more task in a chord's header: a task of the header has added it.
INSERT INTO pgjobs.groups AS g (group_id, added)
VALUES (%(group_id)s, 1)
ON CONFLICT (group_id) DO UPDATE
SET added = g.added + 1
