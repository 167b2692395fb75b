"""Builds on another machine: choosing the server, its API, sending the context, following the run.

``cli.building`` reads the command line, for builds here and there alike.
"""
