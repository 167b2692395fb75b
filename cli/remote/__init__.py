"""Builds on another machine: which server, its API, what is sent to it, and following what it does."""
