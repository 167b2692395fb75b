"""What a build takes from elsewhere: files by URL, git repositories, keys of an SSH agent.

Fetched here, with everything that keeps a hostile server or repository away from this machine; what is fetched becomes
a layer in ``builder/solving/fetching.py``. May not know of plans, steps or images.
"""
