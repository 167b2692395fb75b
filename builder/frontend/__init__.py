"""The frontend: from a parsed Dockerfile and a request to the graph of a build; also the checks and the outline.

Nothing in here runs, fetches or writes; ``builder.solving`` does.
"""
