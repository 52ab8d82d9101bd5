-- 0006_add_entries: keys and values, as Celery's key-value backends keep them for their users.
-- migrate:up

CREATE TABLE pgjobs.entries (
  key        bytea PRIMARY KEY,
  value      bytea NOT NULL,
  -- From then on it is as if it were not there; NULL for one that stays.
  expires_at timestamptz
) WITH (fillfactor = 70);

CREATE INDEX entries_expiring ON pgjobs.entries (expires_at) WHERE expires_at IS NOT NULL;

-- migrate:down

DROP TABLE pgjobs.entries;
