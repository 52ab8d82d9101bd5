-- Entries of an earlier beat_schedule that are not in the one of today.
DELETE FROM pgjobs.schedules
WHERE app = %(app)s
  AND is_configured
  AND name <> ALL (%(names)s::text[])
RETURNING name
