"""Why a step ran: what is different from the last time that it was built.

``details`` is what is remembered of a step, ``lineage`` of a build; ``files`` tells two selections of files apart,
``why`` puts the answer together. Nothing in here runs while the cache answers everything.
"""
