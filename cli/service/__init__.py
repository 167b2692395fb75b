"""The processes of ``shiplap serve``: starts them in order, watches them, and ends them.

What the processes do is in ``web`` and ``worker``. The command with its options is ``cli.commands.serve``.
"""
