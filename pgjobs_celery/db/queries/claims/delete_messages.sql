-- Acknowledged. Fenced: what was put back in the meantime belongs to somebody else.
DELETE FROM pgjobs.messages AS m
WHERE m.id = ANY (%(ids)s::bigint[])
  AND m.claimed_by = %(node)s::uuid
