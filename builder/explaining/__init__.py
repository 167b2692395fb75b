"""Why a step ran: what is different from the last build of it.

``details`` is what is remembered of a step, ``lineage`` what is remembered of a build. ``files`` compares two
selections of files. ``why`` puts the answer together. Nothing in here runs while the cache answers everything.
"""
