"""What is kept and for how long: backups of all that a service knows, and retention.

It works on a whole service, and nothing of a service knows it; command line, web and worker call it.
"""
