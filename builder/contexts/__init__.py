"""Where a build gets its files from: directories, archives, repositories, URLs, and contexts by name.

``filetree`` and ``privatetree`` are what COPY and ADD see of them: the files that ``patterns`` leave, with their stat
data. ``builder.copying`` copies them into layers. ``builder.remotes`` fetches what is far away.
"""
