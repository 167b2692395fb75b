"""Where the files of a job come from: a mirror of each repository, commits and working trees as layers, and ``.git``.

    ROOT/mirrors/<key>/repository/     a bare repository, which only grows; git writes here as nobody, under the lock
    ROOT/mirrors/<key>/lfs/<sha256>    what Git LFS keeps of it elsewhere, checked
    ROOT/mirrors/<key>.lock            flock: exclusive while it is fetched into, thrown away or packed anew
    ROOT/mirrors/<key>.use             flock: shared by whoever reads it, exclusive to pack it anew or to remove files
    ROOT/mirrors/<key>.away-<n>/       a damaged one, until nobody looks at it any more
    ROOT/mirrors/.making-…, .fetching-…  what is being made; locked, and removed when its process is gone
    ROOT/mirrors/<key>.layers          flock: exclusive while a layer of one of its trees is written

The key is a digest of project and URL. What a fork has lies beside: ``<key>-<fork>``, a repository that borrows the
mirror's objects. So does the one for a repository on a laptop: it borrows the user's. Nothing is written into either.

May not know of jobs, workspaces or runs: it gives layers, mounts and values.
"""
