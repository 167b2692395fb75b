"""What COPY and ADD do: from chosen files to the tar of a layer.

Which words an instruction may have is ``builder.frontend``'s; where the files come from is ``builder.contexts``'.
"""
