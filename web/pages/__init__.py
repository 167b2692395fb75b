"""The pages that people see: server-rendered HTML, one blueprint for each group of pages.

A group is a module that exports ``blueprint``; ``installing`` lists them, and puts them into an application.
Views read through the objects of ``pipelines.service.Service`` (``backing.service()``) and the registry
(``backing.registry()``); what they say of it is in ``templates/``, which all extend ``layout.html`` and use the macros
of ``macros.html``. Pages work without JavaScript as far as they can; what is live is htmx polling with ETags, and
``static/log/``.

No view has SQL, no template has inline script or style: the Content-Security-Policy of ``frame`` forbids them.
"""
