"""A build as data: vertices, and what they copy, mount and run.

Nothing in here knows a Dockerfile, and nothing does what a vertex says.
"""
