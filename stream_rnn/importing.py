"""Things that a setting names as "module:name": code of the user's own, found where the command was called too."""

from __future__ import annotations

import importlib
import os
import sys
from functools import reduce
from typing import Any

from stream_rnn.errors import ConfigError


def named(setting: str, path: str) -> Any:
    """What `path` names; ConfigError, with the setting's name, if there is no such thing.

    >>> named("event.transform", "math:floor")(1.5)
    1
    """
    module, colon, name = path.partition(":")
    if not (colon and module and name) or ":" in name:
        raise ConfigError(f'{setting} = {path!r}: write "module:name"')
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"{setting} = {path!r} cannot be found: {e}") from None
