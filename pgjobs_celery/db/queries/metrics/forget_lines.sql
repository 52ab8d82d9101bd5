DELETE FROM pgjobs.lines AS l
