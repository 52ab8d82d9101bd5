-- Remember what a step has returned; fenced by the claim, which nobody can take before this is committed.
-- A second try of a statement whose answer was cut off finds the row, and changes nothing.
WITH held AS MATERIALIZED (
  SELECT j.id
  FROM pgjobs.jobs AS j
  WHERE j.id = %(job)s::bigint
    AND j.attempt = %(attempt)s::integer
    AND j.claimed_by = %(node)s::uuid
  FOR SHARE
), recorded AS (
  INSERT INTO pgjobs.steps (job, name, kind, value, value_type, attempt)
  SELECT h.id, %(name)s, %(kind)s, %(value)s, %(value_type)s, %(attempt)s::integer
  FROM held AS h
  ON CONFLICT (job, name) DO NOTHING
)
SELECT 1 FROM held
