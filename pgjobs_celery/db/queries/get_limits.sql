SELECT l.paused_at, l.concurrency FROM pgjobs.limits AS l WHERE l.queue = %(queue)s
