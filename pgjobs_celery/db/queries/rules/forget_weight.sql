DELETE FROM pgjobs.weights AS w
WHERE w.queue = %(queue)s
  AND w.key = %(key)s
