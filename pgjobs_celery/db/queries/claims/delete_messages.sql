-- Delete acknowledged messages. Fenced: a message that was put back in the meantime belongs to another
-- consumer.
DELETE FROM pgjobs.messages AS m
WHERE m.id = ANY (%(ids)s::bigint[])
  AND m.claimed_by = %(node)s::uuid
