INSERT INTO pgjobs.entries AS e (key, value, expires_at)
VALUES (%(key)s::bytea, %(value)s::bytea,
        pg_catalog.now() + %(expires)s::double precision * interval '1 second')
ON CONFLICT (key) DO UPDATE
SET value = excluded.value,
    expires_at = excluded.expires_at
