"""What forges are told of runs: written down with the run's change of state, and sent afterwards.

Which words and calls a forge wants is ``pipelines.forges``'; the thread that sends is ``web.hooks``'.
"""
