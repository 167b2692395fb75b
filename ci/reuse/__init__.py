"""Results of jobs that are known: by which key, for whom they count, and why a job was none of them.

A job that says what it sees (``inputs``) is answered by an earlier success of the same job on the same content.
``keys`` names everything that takes part in a job, ``results`` keeps what came of it among the records of the build
cache, and ``changes`` tells what is different from the last time.
"""
