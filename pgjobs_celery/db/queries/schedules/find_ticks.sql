-- Jobs that exist, in whatever state: a tick that was published is not published again, even if its
-- entry was deleted and made anew since.
SELECT task_id FROM pgjobs.jobs WHERE task_id = ANY (%(ids)s::text[])
