"""The processes of ``shiplap serve``: what is started in which order, watched, and ended."""
