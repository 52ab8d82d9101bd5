-- Make the rows of gates that have none; one that another transaction is just making is left to it, so that
-- nothing is waited for. A statement of its own before the claim, which locks rows.
INSERT INTO pgjobs.gates (gate)
SELECT g.gate
FROM (SELECT DISTINCT u.gate FROM pg_catalog.unnest(%(gates)s::text[]) AS u (gate) ORDER BY u.gate) AS g
WHERE NOT EXISTS (SELECT FROM pgjobs.gates AS o WHERE o.gate = g.gate)
  AND pg_catalog.pg_try_advisory_xact_lock(%(space)s::integer, pg_catalog.hashtext(g.gate))
ON CONFLICT DO NOTHING
