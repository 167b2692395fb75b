"""The lines that jobs print: stored, followed while they come, and read from any place.

The writer is elsewhere: while a run is built, ``pipelines.runs.logwriter`` writes its lines.
"""
