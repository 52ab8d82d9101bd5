-- The names of the entries with their versions, which show what has changed since it was read.
SELECT name, version FROM pgjobs.schedules WHERE app = %(app)s
