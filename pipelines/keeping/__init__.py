"""Backups of all that a service knows, and retention: what is kept, and for how long.

It works on a whole service, and nothing of a service knows it; command line, web and worker call it.
"""
