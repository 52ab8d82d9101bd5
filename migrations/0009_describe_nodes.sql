-- 0009_describe_nodes: what a worker is, beyond its name: its pool, its process, the tasks it knows.
-- migrate:up

-- NULL until the worker tells, as older releases never do. Told when they change, not with each heartbeat.
ALTER TABLE pgjobs.nodes
  -- host, pid, pool, slots, celery, python: an object.
  ADD COLUMN details jsonb,
  -- The names of the tasks that its app registers; NULL also where there are too many.
  ADD COLUMN tasks text[];

-- migrate:down

ALTER TABLE pgjobs.nodes DROP COLUMN details, DROP COLUMN tasks;
