"""Sources of runs: contexts that somebody sent, and git repositories with the files that a project means.

Nothing in here knows a run.
"""
