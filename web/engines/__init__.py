"""The containers of an engine, as the pages show them: a client of its socket, and what it answers.

    client      requests over the engine's unix socket, their errors, and streams
    documents   docker's documents, as far as pages show them; pure
    frames      what a container wrote, from the bytes of a stream; pure
    lines       a container's log by the numbers of its lines, for the log's panel
    samples     the last minutes of processors and memory, for as long as somebody looks
    entering    a command in a container, for a terminal
    engines     all of that behind one door
    handing     connections of docker's clients, handed to the gate of an engine

Who may ask for what is decided by ``web.pages``; the engine sees the web process's user, whoever looks. This street
asks for what pages show and do, and for nothing else: it makes no containers.
"""

from __future__ import annotations
