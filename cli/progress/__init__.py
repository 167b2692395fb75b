"""Showing a build while it runs, from ``core.events``: live on a terminal, as lines in a pipe, as JSON for programs.

A *display* turns events into text and knows nothing of threads. The *pump* carries events from the build's threads to
one display. Everything goes to standard error in every mode, so that standard output stays free for results
(``-q``, ``-o -``).
"""
