SELECT q.name FROM pgjobs.queues AS q WHERE q.name = %(name)s
