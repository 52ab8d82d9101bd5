-- 0003_add_groups: saved groups, and chords.
-- migrate:up

-- The place of a task in its group; NULL for one that is in none. Which group is the header of a chord
-- stands in groups: Celery says so of a task in its body only.
ALTER TABLE pgjobs.jobs ADD COLUMN group_index integer;

-- Neither changes: claiming and finishing is what it is for any job.
CREATE INDEX jobs_group ON pgjobs.jobs (group_id, group_index) WHERE group_index IS NOT NULL;

-- What is known of a group beyond its tasks: that it was saved, and the chord that it is the header of.
-- How much of the header has finished is not counted here but looked up in the rows of its tasks, so
-- that nothing is counted twice, and nobody waits for somebody else's count.
CREATE TABLE pgjobs.groups (
  group_id     text PRIMARY KEY,
  inserted_at  timestamptz NOT NULL DEFAULT now(),
  -- Its results, as GroupResult.save() has them.
  result       bytea,
  result_type  text,
  -- The chord's body, and the structure of its header where that is not flat; gone when it is published.
  body         bytea,
  header       bytea,
  body_type    text,
  -- How many tasks the header has; NULL until all of them are published.
  size         integer,
  -- How many were added to it since, less those that stand in it more than once.
  added        integer NOT NULL DEFAULT 0,
  -- How often a worker tried to publish the body in place of the one whose task was the last.
  attempts     integer NOT NULL DEFAULT 0,
  -- When the body was published, or failed with its header.
  published_at timestamptz
);

CREATE INDEX groups_open ON pgjobs.groups (inserted_at) WHERE size IS NOT NULL AND published_at IS NULL;
CREATE INDEX groups_inserted ON pgjobs.groups (inserted_at);

-- migrate:down

DROP TABLE pgjobs.groups;
DROP INDEX pgjobs.jobs_group;
ALTER TABLE pgjobs.jobs DROP COLUMN group_index;
