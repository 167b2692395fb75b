"""Go's text/template, as far as people use it in ``--format``: parsed into a tree, and walked.

There are ``{{.Field.Field}}``, ``$variables``, pipelines, parentheses, ``if``, ``else if``, ``range`` (with ``break``
and ``continue``), ``with``, comments, ``{{-`` and ``-}}``, Go's own functions, and docker's. ``define``, ``template``
and ``block`` are refused.

A template comes from the person at the terminal, but the data does not: so what a template may do is bounded (steps,
bytes of output, depth), whatever the data is.

``lexing``    text to tokens
``parsing``   tokens to a tree
``nodes``     the tree
``running``   the tree and data to text
``functions`` what a template may call
``printing``  values as Go's fmt prints them
``errors``    what can be wrong
"""

from cli.gotemplate.errors import TemplateError, TemplateRunError, TemplateSyntaxError
from cli.gotemplate.functions import FUNCTIONS, HEADER_FUNCTIONS
from cli.gotemplate.parsing import parse
from cli.gotemplate.running import Template

__all__ = [
    "FUNCTIONS",
    "HEADER_FUNCTIONS",
    "Template",
    "TemplateError",
    "TemplateRunError",
    "TemplateSyntaxError",
    "parse",
]
