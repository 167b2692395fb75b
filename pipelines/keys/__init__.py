"""The key that secrets are encrypted with, and the number of the key that a database was written under.

This is below the database, which is opened with the key. ``pipelines.sealing`` encrypts with it.
"""
