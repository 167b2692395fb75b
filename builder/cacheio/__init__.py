"""The build cache: what answers steps here, and what ``--cache-from`` and ``--cache-to`` name elsewhere.

``buildcache`` asks the store's records and then those of others; ``classes`` says for whom a record counts. A cache
elsewhere is an OCI artifact: a config blob with the records, and the layers that they name (docs/cache.md has the
format). ``options`` reads the command line, ``document`` is the format, ``layout`` and ``repository`` are the two
places, ``importing`` and ``exporting`` the two directions. Nothing in here knows how a step is done.
"""
