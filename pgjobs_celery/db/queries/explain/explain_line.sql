-- on walk_line
-- How many jobs of a queue stand before a place in line, and how many of the queue run; looks at so many
-- entries from the head of the line, and no further: 0.1 s for 20,000, together with explain_running.
SELECT pg_catalog.count(*) FILTER (WHERE m.claimed_by IS NULL
                                     AND (m.priority, m.seq) < (%(priority)s::smallint, %(seq)s::bigint)),
       pg_catalog.count(*) FILTER (WHERE m.claimed_by IS NOT NULL AND m.has_message),
       pg_catalog.count(*) >= %(depth)s::bigint,
       pg_catalog.count(*) < %(depth)s::bigint
         OR pg_catalog.bool_or((m.priority, m.seq) >= (%(priority)s::smallint, %(seq)s::bigint))
FROM matched AS m
