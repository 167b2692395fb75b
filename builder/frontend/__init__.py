"""From a parsed Dockerfile and a request to the graph of a build, with the checks and the outline on the way.

Nothing in here runs, fetches or writes; what does is ``builder.solving``.
"""
