-- All claims wait behind who waits for the nodes.
SELECT set_config('lock_timeout', '5s', true)
