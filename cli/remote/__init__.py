"""Builds on another machine: which server, its API, what is sent to it, and following what it does.

What a build is asked for is read by ``cli.building``, here and there alike.
"""
