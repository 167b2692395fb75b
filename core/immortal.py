"""Objects whose references are counted no more: pages of a forked process that only looks at them stay shared.

CPython leaves the count of an object alone whose low half is all ones (PEP 683; 3.12 and 3.13, 64 bit). Otherwise each
function that a child calls writes the counts of all that it touches, and the page is the child's own from then on. On
other interpreters nothing is done, which costs memory and nothing else.
(The nursery imports this: only what is cheap.)
"""

from __future__ import annotations

import ctypes
import gc
import sys
from types import CodeType, FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VERSIONS = ((3, 12), (3, 13))
_IMMORTAL = 0xFFFFFFFF
"""_Py_IMMORTAL_REFCNT of Include/object.h"""


def can_make() -> bool:
    """Whether this interpreter is one of those that are known to leave such counts alone."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _VERSIONS
        and sys.maxsize > 1 << 32
        and sys.byteorder == "little"
        and not hasattr(sys, "gettotalrefcount")  # a debug build counts them all
        and "t" not in sys.abiflags
    )


def make() -> int:
    """Have all that there is live as long as the process; how many objects. Before ``gc.freeze``, which hides them."""
    if not can_make():
        return 0
    found: list[Any] = gc.get_objects()
    seen: set[int] = set()  # made second: it is not to be found, and to live as long, with a number for each object
    while found:
        each = found.pop()
        if id(each) in seen or isinstance(each, FrameType):
            continue
        seen.add(id(each))
        found += gc.get_referents(each)
        if isinstance(each, CodeType):  # which the collector does not know
            found += (each.co_consts, each.co_names, each.co_filename, each.co_name, each.co_qualname)
            found += (each.co_linetable, each.co_exceptiontable, *each.co_varnames, *each.co_freevars)
        elif isinstance(each, (tuple, frozenset)):
            found += each  # of constants, which the collector does not know either
        ctypes.c_uint32.from_address(id(each)).value = _IMMORTAL
    return len(seen)
