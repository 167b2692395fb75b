"""The processes of ``shiplap serve``: what is started in which order, watched, and ended.

What the processes do is ``web``'s and ``worker``'s; the command with its options is ``cli.commands.serve``.
"""
