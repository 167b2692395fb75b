"""Containers as things with names: made, started, looked at and removed, with no daemon that owns them.

``Engine`` (engine.py) is the door. Its input is docker's create body, its output docker's JSON documents, so that the
command line and the Engine API stand on the same functions. Nothing here knows of HTTP, of click, or prints.

    engine        the door: what a command or the API asks for
    lifecycle     create, start, stop, remove: what is written in which order; finishing: what is due; restoring: a boot
    waiting       for a container's end
    looking       documents of docker's for ``inspect``, lists, ``info``, ``system df``; filters
    create        docker's create body, read: what is asked for, what is refused, ``spec.json``
    logs, events, stats, top, changes, prune
    records       ``engine.db``; state: ``state.json`` and the lock; places: where everything lies

The truth is on disk. That a container exists is a row of ``engine.db``. That it runs is a lock that its keeper
(``containers.keeper``) holds. How it ended is a file. So whoever looks needs no process to ask, and nothing is
lost with one.
"""
