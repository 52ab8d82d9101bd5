-- The weight of a key in the fair shares of a queue.
INSERT INTO pgjobs.weights AS w (queue, key, weight)
VALUES (%(queue)s, %(key)s, %(weight)s::float8)
ON CONFLICT (queue, key) DO UPDATE SET weight = excluded.weight
