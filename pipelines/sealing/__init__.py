"""Secrets and log-ins, encrypted at rest, and the key that they are encrypted with."""
