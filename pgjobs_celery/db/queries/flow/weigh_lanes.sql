-- A key has another weight: its lanes are due as soon as before, and less or more often from then on. Under
-- the queue's lock.
UPDATE pgjobs.lanes AS l
SET weight = %(weight)s::double precision
WHERE l.queue = %(queue)s
  AND l.share = %(share)s
