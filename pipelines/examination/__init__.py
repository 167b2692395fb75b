"""Looks at what a service stands on, as an administrator would try it by hand: for its page, and for a command.

A look is a generator of ``findings``: of the ``stores`` (database, key, Redis), and of this ``host`` (git, disk). None
waits for longer than its connections' own time-outs. What needs containers or other addresses is the command's:
``shiplap doctor --service``.
"""
