"""A build as data: vertices, what they copy, mount and run, and for whom their results count.

Nothing in here knows a Dockerfile, and nothing does what a vertex says.

"""
