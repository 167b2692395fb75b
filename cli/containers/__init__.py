"""What the commands about containers, volumes and networks share.

``command``    docker's booleans and exit codes
``options``    the options of ``run`` and ``create``, declared once
``body``       those options as docker's create body
``ports``, ``volumes``, ``networks``, ``health``, ``devices``  parts of it
``filters``    ``--filter``
``times``      ``--since`` and ``--until``
``formats``    ``--format``: tables, JSON, Go templates
``rows``       what tables and templates can show of a container
"""
