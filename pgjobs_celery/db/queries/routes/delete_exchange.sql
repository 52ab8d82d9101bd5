-- Delete an exchange with its bindings: later messages to it reach nobody.
WITH unbound AS (
  DELETE FROM pgjobs.bindings AS b WHERE b.exchange = %(name)s
)
DELETE FROM pgjobs.exchanges AS e WHERE e.name = %(name)s
