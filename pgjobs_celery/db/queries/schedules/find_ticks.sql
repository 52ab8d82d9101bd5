-- Jobs that are there, in whatever state: a tick that was published is not published again, although
-- its entry was deleted since, and made anew.
SELECT task_id FROM pgjobs.jobs WHERE task_id = ANY (%(ids)s::text[])
