"""One job, from its plan to its outcome: its image, its container, its steps, what it leaves and how it ends.

``job.execute`` is the one function that the service's worker and ``shiplap ci run`` call; what it works with and what
comes of it is ``ci.outcome``. What the job's author did wrong is an outcome; what the machines did wrong is raised.
"""
