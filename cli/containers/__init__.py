"""What the commands about containers, volumes and networks share.

``table``      the commands about containers, which stand at the top and in a group
``command``    docker's booleans and exit codes
``options``    the options of ``run`` and ``create``, declared once
``body``       those options as docker's create body
``ports``, ``volumes``, ``networks``, ``health``, ``devices``  parts of it
``filters``    ``--filter``
``times``      ``--since`` and ``--until``
``formats``    ``--format``: tables, JSON, Go templates
``rows``, ``statistics``  what tables and templates can show of a container
``inspecting`` documents, and templates over them
``opening``    the engine of a root; one thing for many containers
``images``     the image of a new container
``making``     a container from those options; ``running``: and then started; ``foreground``: without the engine
``copying``    files out of a container and into one
``attaching``  our terminal, streams and signals at a container
"""
