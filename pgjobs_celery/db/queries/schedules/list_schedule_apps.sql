-- The apps that have entries: of a database whose program is not known.
SELECT DISTINCT s.app FROM pgjobs.schedules AS s ORDER BY s.app LIMIT %(limit)s::bigint
