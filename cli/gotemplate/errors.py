"""What can be wrong with a template. The messages are Go's.

(ShiplapError)
└── TemplateError
    ├── TemplateSyntaxError
    └── TemplateRunError
"""

from __future__ import annotations

from core.errors import ShiplapError


class TemplateError(ShiplapError):
    """A template cannot be used."""


class TemplateSyntaxError(TemplateError):
    """A text is no template."""


class TemplateRunError(TemplateError):
    """A template does not fit the data, or asks for more than a template may."""
