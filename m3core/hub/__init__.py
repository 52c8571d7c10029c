"""Model hubs: from what a user calls a model to a directory, through whichever endpoint delivers it.

The files lie in the hub library's own cache, in its layout and under its locks, so that other programs share them.
"""

from m3core.hub.locating import DEFAULT, MINI, Located, locate

__all__ = ["DEFAULT", "MINI", "Located", "locate"]
