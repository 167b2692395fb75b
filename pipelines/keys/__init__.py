"""The key that secrets are encrypted with, and which one a database was written under.

Below the database, which is opened with it. What is encrypted is ``pipelines.sealing``'s.
"""
