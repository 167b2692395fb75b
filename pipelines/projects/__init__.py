"""Projects: their settings and hooks, what their runs may name, and how their images are named.

``pipelines.owning`` has what projects were given; ``pipelines.runs`` has their runs.
"""
