"""Pipelines of other systems, written anew as pipelines of ours.

A module for each dialect reads a file by ``foreign`` into a ``draft``, and lists by ``remarks`` what it could not do.
``settling`` writes the draft and has it linted by the real function; what lint refuses is taken out and listed. Nothing
is guessed: what is not understood fails in the job that it was in, or keeps that job to runs by hand. No dialect
imports another one.
"""
