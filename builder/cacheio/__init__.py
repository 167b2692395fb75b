"""The build cache on its way in and out: what ``--cache-from`` and ``--cache-to`` name.

A cache elsewhere is an OCI artifact: a config blob with the records, and the layers that they name (docs/cache.md has
the format). ``spec`` says where, ``options`` reads the command line, ``document`` is the format, ``layout`` and
``repository`` are the two places, ``importing`` and ``exporting`` the two directions.
"""
