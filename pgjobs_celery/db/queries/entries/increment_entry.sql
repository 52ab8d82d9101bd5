-- Add one to a key's value, a decimal number as text; an absent or expired key counts as 0. The row is
-- locked while it is read, so two callers never count the same number. The key keeps its time to live.
INSERT INTO pgjobs.entries AS e (key, value)
VALUES (%(key)s::bytea, '1')
ON CONFLICT (key) DO UPDATE
SET value = CASE
      WHEN e.expires_at <= pg_catalog.now() THEN excluded.value
      ELSE pg_catalog.convert_to(
        (pg_catalog.convert_from(e.value, 'UTF8')::bigint + 1)::text, 'UTF8') END,
    expires_at = CASE WHEN e.expires_at > pg_catalog.now() THEN e.expires_at END
RETURNING pg_catalog.convert_from(e.value, 'UTF8')::bigint
