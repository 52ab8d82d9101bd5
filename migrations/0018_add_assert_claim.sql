-- 0018_add_assert_claim: whether a run still holds its job, for SQL of the task's own.
-- migrate:up

-- Raises PJ001 unless this attempt holds the job, and holds the row until the commit: meanwhile nobody
-- rescues, settles or takes the job. For a task that does not use self.transaction(): what it commits is
-- there only if the claim stood. `node` is the worker's process (nodes.node); without it the attempt counts.
CREATE FUNCTION pgjobs.assert_claim(job text, attempt integer, node uuid DEFAULT NULL) RETURNS void
  LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM FROM pgjobs.jobs AS j
  WHERE j.task_id = assert_claim.job
    AND j.attempt = assert_claim.attempt
    AND j.finished_at IS NULL
    -- Neither of none, nor of one that was replaced.
    AND j.claimed_by <> '00000000-0000-0000-0000-000000000000'
    AND (assert_claim.node IS NULL OR j.claimed_by = assert_claim.node)
  FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'attempt % does not hold job % any more', assert_claim.attempt, assert_claim.job
      USING ERRCODE = 'PJ001',
            HINT = 'Another worker has the job, or it has ended: roll back.';
  END IF;
END
$$;

-- migrate:down

DROP FUNCTION pgjobs.assert_claim(text, integer, uuid);
