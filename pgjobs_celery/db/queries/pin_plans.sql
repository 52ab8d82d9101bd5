-- A worker that starts on an empty table caches a plan that costs 90 ms a claim once rows arrive.
-- Set for the transaction only, so that a transaction pooler may stand between.
SELECT set_config('enable_seqscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true)
