-- The queues that a message to a named exchange reaches. Asked each time, so that a binding counts from
-- the moment it is committed, whichever process made it.
SELECT DISTINCT b.queue
FROM pgjobs.exchanges AS e
JOIN pgjobs.bindings AS b ON b.exchange = e.name
WHERE e.name = %(exchange)s
  AND CASE e.type
        WHEN 'fanout' THEN true
        WHEN 'topic' THEN %(routing_key)s ~ b.pattern
        ELSE b.routing_key = %(routing_key)s
      END
