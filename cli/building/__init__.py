"""The parts of ``shiplap build``, here and on a service: from its options to its last line.

The command itself is ``cli.commands.build``.
"""
