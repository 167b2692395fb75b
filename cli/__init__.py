"""The ``shiplap`` command: the only room that prints, exits and reads the terminal.

Start-up time is a feature: ``--help`` under 60 ms, a cached build under 100 ms. So no module here imports at module
level what only some commands need. Each command is a module in ``cli.commands``, imported when it is called.
"""
