-- The jobs that hold the places of a gate, those that began first.
SELECT j.task_id, j.task, j.attempted_by,
       CASE WHEN j.attempted_at IS NOT NULL
            THEN least(greatest(j.attempted_at, '0001-01-03'), '9999-12-29') END
FROM pgjobs.gates AS g
CROSS JOIN LATERAL unnest(g.jobs, g.attempts) AS h (job, attempt)
JOIN pgjobs.jobs AS j ON j.id = h.job AND j.attempt = h.attempt
WHERE g.gate = %(gate)s
  AND j.claimed_by IS NOT NULL
  AND j.message IS NOT NULL
ORDER BY j.attempted_at
LIMIT %(limit)s::bigint
