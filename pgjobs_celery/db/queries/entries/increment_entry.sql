-- One more than what is there, as a decimal number in text; what is not there, or has expired, counts as 0.
-- The row is locked while it is read, so that two never count the same. It keeps its time.
INSERT INTO pgjobs.entries AS e (key, value)
VALUES (%(key)s::bytea, '1')
ON CONFLICT (key) DO UPDATE
SET value = CASE
      WHEN e.expires_at <= pg_catalog.now() THEN excluded.value
      ELSE pg_catalog.convert_to(
        (pg_catalog.convert_from(e.value, 'UTF8')::bigint + 1)::text, 'UTF8') END,
    expires_at = CASE WHEN e.expires_at > pg_catalog.now() THEN e.expires_at END
RETURNING pg_catalog.convert_from(e.value, 'UTF8')::bigint
