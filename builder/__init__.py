"""Instructions to a graph, the graph to layers, layers to an image.

The frontend plans (pure), the solver executes: in parallel, cached by content. COPY, ADD and WORKDIR write their layer
tars here, without a mounted filesystem of their own; RUN goes through ``containers``. Knows nothing of queues, HTTP
servers or the command line.
"""
