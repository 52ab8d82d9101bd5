SELECT e.type FROM pgjobs.exchanges AS e WHERE e.name = %(name)s
