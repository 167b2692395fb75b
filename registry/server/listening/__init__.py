"""How connections are taken and given to threads, so that slow clients cost no more than a socket.

    head ──▶ body ──▶ a thread ──▶ idle ──▶ head …          closing ──▶ gone

One thread, the *listener*, holds every connection that has not sent a whole request: it reads what comes and waits
for nobody. A thread of the pool gets only a request that is whole. The exception is a request with a large body: its
head is enough, and it takes one of the few places that are kept for such.

- ``worker`` puts the parts together.
- ``lobby`` counts connections and lets them go.
- ``heads`` reads as much of a head as that takes.
- ``bodies`` wants a least rate.
- ``vouching`` knows who was let in.
"""
