"""Copied beside the package as `sitecustomize`: no Python process of a run replaces or removes a device.

A fault in what writes files may take ``/dev/null`` for a file; root would then have replaced it, for the whole machine.
"""

import os
import stat
import sys

EVENTS = {"os.rename", "os.remove", "os.chmod", "os.chown", "os.truncate"}


def keep(event, args):
    """An audit hook: raise before a device is touched otherwise than by being written to."""
    if event in EVENTS and any(is_device(path) for path in args[:2]):
        raise PermissionError(f"{event} of a device, in a run that plants faults")


def is_device(path):
    """Whether this names a device; what is no path does not."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, TypeError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


sys.addaudithook(keep)
