DELETE FROM pgjobs.bindings AS b
WHERE b.exchange = %(exchange)s
  AND b.routing_key = %(routing_key)s
  AND b.queue = %(queue)s
