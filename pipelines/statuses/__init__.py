"""Commit statuses: what forges learn of runs. Written down with the run's change of state, and sent afterwards.

``pipelines.forges`` knows the words and calls of each forge; ``web.hooks`` has the thread that sends.
"""
