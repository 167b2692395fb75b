"""The lines that runs print: stored, followed while they come, and read from any place.

What writes them while a run is built is ``pipelines.runs.logwriter``.
"""
