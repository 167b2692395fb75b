"""BuildKit's protocol: what docker's default builder, buildx and compose speak, over Shiplap's own builder.

    messages    what is said: a table of members by their numbers
    transport   HTTP/2 on a connection, either end of it: streams of bytes with bounds and time-outs
    rpc         gRPC on these streams: calls that are served, and calls that are made
    door        where connections come in: whose they are, how many, and what is served on them
    control     the calls of clients: solve, status, workers, disk usage, prune, and what is asked within a solve
    builds      the solves under way, each its caller's
    sessions    clients' own services, which we call: files, secrets, agents, credentials
    receiving   a directory of the client's, of which only changed files cross; sending: outputs, to the client
    making      the files of such a directory, made ahead of their contents
    caches      directories of the client's that caches go to and come from
    keeping     where such directories are kept from build to build
    wanted      what a solve asks for, as a request of the builder's
    solving     one solve, from its options to the answer
    answering   questions about a Dockerfile, in place of a build
    progress    a build's events as vertices, logs and warnings

Loaded at the first such request: nothing else of the API needs HTTP/2 or protobuf. Every connection has a thread that
reads and one that writes, and every call a thread of its own, for the builder is threads throughout.
"""
