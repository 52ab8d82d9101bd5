-- The first declaration counts; the caller compares the stored one with its own.
WITH declared AS (
  INSERT INTO pgjobs.exchanges AS e (name, type, durable, auto_delete, arguments)
  VALUES (%(name)s, %(type)s, %(durable)s, %(auto_delete)s, %(arguments)s::jsonb)
  ON CONFLICT (name) DO NOTHING
  RETURNING e.type
)
SELECT type FROM declared
UNION ALL
SELECT e.type FROM pgjobs.exchanges AS e WHERE e.name = %(name)s
LIMIT 1
