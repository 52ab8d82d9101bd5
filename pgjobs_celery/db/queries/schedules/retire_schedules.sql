-- Remove the entries of an earlier beat_schedule that today's does not have.
DELETE FROM pgjobs.schedules
WHERE app = %(app)s
  AND is_configured
  AND name <> ALL (%(names)s::text[])
RETURNING name
