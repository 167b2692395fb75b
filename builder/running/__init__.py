"""What a RUN needs: its container, its mounts, what it must not print, and how its failure is told.

Namespaces and processes are the room ``containers``'.
"""
