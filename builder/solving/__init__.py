"""What walks the graph: which vertex is answered from the cache, which one is done, and how its layer is written.

How a RUN or a COPY is done is ``builder.running``'s and ``builder.copying``'s.
"""
