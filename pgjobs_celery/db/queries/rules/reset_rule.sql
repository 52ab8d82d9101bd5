-- Take away the rule that a hand has set; that of the code counts again, if there is one.
DELETE FROM pgjobs.flows AS f
WHERE f.flow = %(flow)s
  AND f.source = 'hand'
RETURNING f.flow
