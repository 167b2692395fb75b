"""The build cache: the store's records, and the caches that ``--cache-from`` and ``--cache-to`` name elsewhere.

``buildcache`` asks the store's records first, then those from elsewhere. ``classes`` says for whom a record counts. A
cache elsewhere is an OCI artifact: a config blob with the records, and the layers that they name (docs/cache.md).
``options`` reads the command line, ``document`` is the format, ``layout`` and ``repository`` are the two places,
``importing`` and ``exporting`` the two directions. Nothing in here knows how a step is done.
"""
