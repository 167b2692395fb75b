"""What a build takes from elsewhere: files by URL, git repositories, keys of an SSH agent.

They are fetched here, with everything that keeps a hostile server or repository away from this machine.
``builder/solving/fetching.py`` makes layers of them. May not know of plans, steps or images.
"""
