"""Where a build gets its files from: directories, archives, repositories, URLs, and contexts by name.

What is copied out of them into layers is ``builder.copying``'s; what fetches from far away is ``builder.remotes``'.
"""
