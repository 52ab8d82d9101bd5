-- With its bindings: what is published to it afterwards reaches nobody.
WITH unbound AS (
  DELETE FROM pgjobs.bindings AS b WHERE b.exchange = %(name)s
)
DELETE FROM pgjobs.exchanges AS e WHERE e.name = %(name)s
