-- Identify the database and its server, whatever name either has where we connect.
SELECT pg_catalog.current_database()::text, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text
