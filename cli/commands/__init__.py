"""One module for each command; each has ``command``, and is imported when that command is called."""
