-- Make the row of a gate that has none, as make_gates does for claims: one that another transaction is just
-- making is left to it.
INSERT INTO pgjobs.gates (gate)
SELECT %(gate)s
WHERE NOT EXISTS (SELECT FROM pgjobs.gates AS o WHERE o.gate = %(gate)s)
  AND pg_catalog.pg_try_advisory_xact_lock(%(space)s::integer, pg_catalog.hashtext(%(gate)s))
ON CONFLICT DO NOTHING
