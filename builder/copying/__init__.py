"""What COPY and ADD do: from chosen files to the tar of a layer.

``builder.frontend`` knows which words an instruction may have; ``builder.contexts`` knows where files come from.
"""
