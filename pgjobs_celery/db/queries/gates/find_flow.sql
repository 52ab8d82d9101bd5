-- Is there a rule of this name?
SELECT true FROM pgjobs.flows AS f WHERE f.flow = %(flow)s LIMIT 1
