"""What a job sees of its run's files, and what of its own it leaves to later jobs.

A workspace is a stack of layers: the commit's files, and on them the outputs of all jobs before. ``stack`` says what
there is in it, by listings of the layers, and gives its content a key; ``conflicts`` refuses outputs that contradict
each other; ``selection`` finds what ``inputs`` leave of it, and ``mask`` hides the rest. ``workspace`` is what a
container mounts; ``outputs`` makes a layer of what the job left in it.
"""
