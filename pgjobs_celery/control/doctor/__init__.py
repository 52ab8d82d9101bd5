"""Examine a database and an app: everything that is wrong, or will be, with its evidence and"
" remedy."""
