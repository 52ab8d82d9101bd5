-- What there is, and what of it has changed since it was read.
SELECT name, version FROM pgjobs.schedules WHERE app = %(app)s
