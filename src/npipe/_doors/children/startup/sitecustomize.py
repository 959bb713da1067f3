"""Opens the doors of the process that has started this one, as NPIPE_DOORS names them; then comes what is shadowed.

Any interpreter reads this, older ones too, and such as have no npipe: they go on as without it.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_here))))
_path = list(sys.path)

if "NPIPE_DOORS" in os.environ and sys.version_info >= (3, 11):
    from importlib.machinery import EXTENSION_SUFFIXES
    from importlib.util import find_spec

    # The npipe of this interpreter, or that of the process that has started this one, if it is for the same version.
    _parts = os.path.join(_root, "npipe", "binding", "_parts")
    if any(os.path.exists(_parts + _suffix) for _suffix in EXTENSION_SUFFIXES):
        sys.path.append(_root)
    try:
        _found = find_spec("npipe._doors.children") is not None
    except ImportError:
        _found = False
    if _found:
        from npipe._doors.children import begin_inherited

        begin_inherited()

sys.path[:] = [_place for _place in _path if os.path.abspath(_place) != _here]
_own = sys.modules.pop("sitecustomize")
try:
    __import__("sitecustomize")  # another one, further on
except ImportError as _error:
    if getattr(_error, "name", "sitecustomize") != "sitecustomize" or "sitecustomize" not in str(_error):
        raise
finally:
    sys.modules.setdefault("sitecustomize", _own)
