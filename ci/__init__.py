"""Pipelines of jobs: the file that describes them, the plan of a run, and how one job is done.

The service and a laptop call the same functions of this room. So it knows no database, no queue and no terminal:
``pipelines`` keeps what is said here, ``worker`` and ``cli`` call it.
"""
