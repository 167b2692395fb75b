"""One module for each command; each has ``command``, and is imported when that command is called.

A command's path is its file's path: ``shiplap image ls`` is ``image/ls.py``. What several need lies in ``cli`` itself.
"""
