SELECT b.queue, b.exchange, b.routing_key FROM pgjobs.bindings AS b ORDER BY 2, 3, 1
