-- One of the program's own comes back with its next beat, so that it is not for us to delete.
DELETE FROM pgjobs.schedules
WHERE app = %(app)s AND name = %(name)s AND NOT is_configured
RETURNING name
