"""The ``shiplap`` command: the only room that prints, exits and reads the terminal.

Start-up time is a feature (``--help`` under 60 ms, a cached build under 100 ms), so nothing here imports at module
level what only some commands need: each command is a module of its own in ``cli.commands``, imported when called.
"""
