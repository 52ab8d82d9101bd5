-- For statements whose filters are mostly NULL (plan_anew), and that no mistaken estimate may turn into a
-- look at all rows. Without JIT: it would take longer than the statement.
SELECT pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true),
       pg_catalog.set_config('enable_seqscan', 'off', true),
       pg_catalog.set_config('jit', 'off', true)
