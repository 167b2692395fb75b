"""A run on this machine, in memory: ``shiplap ci run``.

What each job does is handed in, and what becomes of the others when one ends is ``ci.graph``'s, as on the
service. Here is what a service has a database, a queue and workers for: who runs now, on which thread, and how a run is
ended. It knows no terminal: whoever starts a run hands in who is told of it.
"""
