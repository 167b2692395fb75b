"""Directories as COPY and ADD see them: the files that the patterns leave, their stat data, and what they hold.

Nothing in here knows an instruction or a build. Which directory it is, is ``builder.contexts``' and
``builder.solving``'s; what becomes of the files is ``builder.copying``'s.
"""
