-- Delete an entry made at run time. One of the program's own would come back with its next beat, so it
-- cannot be deleted here.
DELETE FROM pgjobs.schedules
WHERE app = %(app)s AND name = %(name)s AND NOT is_configured
RETURNING name
