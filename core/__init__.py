"""What every room needs and none owns: errors, settings, identifiers, events, durable files.

Standard library only, no I/O at import, and nothing that knows of images, Dockerfiles or HTTP. If two rooms need the
same thing, it comes here; if only one does, it stays there.
"""
