"""The commands, one module each. A module has ``command``, and is imported when its command is called.

A command's path is its file's path: ``shiplap image ls`` is ``image/ls.py``. Code that several need lies in ``cli``.
"""
