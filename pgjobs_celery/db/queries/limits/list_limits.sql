SELECT l.queue, l.concurrency FROM pgjobs.limits AS l WHERE l.concurrency IS NOT NULL
