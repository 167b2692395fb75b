"""The ``shiplap`` command: the only room that prints, exits and reads the terminal.

Start-up time is a feature (``--help`` under 60 ms, a cached build under 100 ms), so nothing here imports at module
level what only some commands need: each command is a module of its own in ``cli.commands``, imported when called.
"""

VERSION = "0.1.0"  # here and not from the installed metadata: importlib.metadata takes 13 ms to import
