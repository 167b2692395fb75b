"""The solver: walks the graph, answers vertices from the cache or executes them, and has their layers written.

``builder.running`` knows how a RUN is done, ``builder.copying`` how a COPY is done.
"""
