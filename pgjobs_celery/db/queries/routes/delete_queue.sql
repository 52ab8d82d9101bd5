-- Delete a queue with its bindings and its remaining messages; its jobs were purged before.
WITH unbound AS (
  DELETE FROM pgjobs.bindings AS b WHERE b.queue = %(name)s
), emptied AS (
  DELETE FROM pgjobs.messages AS m WHERE m.queue = %(name)s
)
DELETE FROM pgjobs.queues AS q WHERE q.name = %(name)s
