"""The engine beside its peers: ``python -m bench.engine``. Containers that live on, their networks, ports and logs.

Shiplap, dockerd, and podman with crun each have a host of their own: a network, a process and a mount namespace, with a
neighbour behind a veth pair (``hosts``). All that they start ends with it. What moves bytes is one program
(``traffic``), in an image that is made of the bench's own Python (``image``).
"""
