"""OCI content: blobs, layers, images, cache records and snapshots, in one store that many processes share.

``Store`` (store.py) is the door: ``store.blobs``, ``.layers``, ``.images``, ``.cache``, ``.snapshots``. Layer tars are
written by tarwriter.py and diff.py, applied by apply.py; archive.py carries images in and out.

Nothing here knows of Dockerfiles, HTTP or containers, and nothing here mounts: ``Snapshots.lowers`` returns data that
``containers`` mounts. Submodules are imported by name, so that a cached build pays only for what it uses.
"""
