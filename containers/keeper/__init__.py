"""Keepers: a small process is one container's life, from its first attach, wait or start to its end.

What lives here: the keeper's process, the nursery that keepers are forked from, and the client that talks to both. What
may not: names, records, images, HTTP. A keeper knows the directory of its container, and what is in its ``spec.json``.

- What the rest of Shiplap uses: ``protocol`` (messages, ``Conversation``), ``nursery_client`` (finds a keeper, or makes
  one), ``eventlog``, ``records`` (the files that a keeper reads and writes).
- The nursery: ``nursery`` is its main program.
- A keeper: ``spare`` is its process, ``serving`` answers its socket, ``life`` has the states of its container,
  ``account`` writes them down, ``cell`` is what it is made in, ``wiring`` its networks. ``streams`` and ``relay`` carry
  bytes, ``logfile`` keeps them, ``following`` shows them, ``waiting`` tells the end. ``health``, ``restarts``,
  ``ranges`` and ``counters`` are what their names say. ``loop`` calls them all, one at a time.
- Its networks: ``ports`` with ``tcprelay`` and ``udprelay`` are its published ports, ``names`` with ``dnswire``,
  ``forwarding`` and ``namefiles`` its name server.

Everything but the client is of the kind that the launcher is: few imports (``json`` is the one more), one thread. An
error of a handler ends the connection that it was for, never the loop.
"""
