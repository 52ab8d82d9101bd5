-- Have this transaction's commit not wait for the disk: the log writer brings it there within three times
-- wal_writer_delay (0.6 seconds), and a crash of the server before that takes the transaction back whole.
-- A commit after it that does wait takes it along.
SELECT pg_catalog.set_config('synchronous_commit', 'off', true)
