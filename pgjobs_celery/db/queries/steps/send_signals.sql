-- Signals to jobs, by their task ids or by the keys that they wait with. Nothing of theirs is read or locked:
-- who waits is found by a service (wake_waiting), so that a sender may be in a transaction that lasts. The
-- rank keeps the order in which they were given.
-- With is_first only where none of that name was sent to that address: of two at the same time the second waits
-- for the first's commit.
INSERT INTO pgjobs.signals (task_id, key, name, payload, payload_type, is_first, sent_by)
SELECT s.task_id, s.key, s.name, s.payload, s.payload_type, %(is_first)s::boolean, %(sent_by)s
FROM unnest(%(task_ids)s::text[], %(keys)s::text[], %(names)s::text[], %(payloads)s::bytea[],
            %(types)s::text[]) WITH ORDINALITY AS s (task_id, key, name, payload, payload_type, rank)
WHERE NOT %(is_first)s::boolean
   -- Never read as a whole: EXISTS may be.
   OR coalesce(
     (SELECT false FROM pgjobs.signals AS e WHERE e.task_id = s.task_id AND e.name = s.name LIMIT 1),
     (SELECT false FROM pgjobs.signals AS e WHERE e.key = s.key AND e.name = s.name LIMIT 1), true)
ORDER BY s.rank
ON CONFLICT DO NOTHING
RETURNING id
