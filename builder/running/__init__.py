"""Runs a RUN: its container, its mounts, masking of its output, and the report of its failure.

Namespaces and processes belong to the room ``containers``.
"""
