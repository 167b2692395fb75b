"""The Docker Engine API: HTTP over the engine and the images, for docker's own clients.

    __main__    the process: where to listen, as whom; private: the process of one job's own engine
    server      gunicorn with our settings; its worker, which lets a request take its connection over
    app         the Flask application: versions, errors, the endpoints
    endpoints   a module for each family: system, containers, streams, execs, archive, images, networks, volumes, events
    buildkit    BuildKit's protocol over HTTP/2: sessions of clients, builds, contexts of which changed files cross
    tcp         a process of its own: who connects over TCP, joined to our unix socket with that user's rights
    access      an engine for each caller, by the socket's peer
    handover    a client's connection, taken from gunicorn: for a keeper, or for the pump
    pump        the one thread that serves whatever waits: waits, statistics, events
    audit       who asked for a change of anything
    browsers    pages of other sites change nothing
    websocket   frames of attaches by browsers
    versions    what came and went with each version of the API; errors: docker's statuses and words
    asking      what requests say, read; answering: what they get

Nothing here knows how a container lives, and nothing else may import this room. What a keeper can serve is handed to
it, so that this process can be killed, upgraded or absent.
"""
