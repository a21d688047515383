"""What can go wrong between asking an actor and its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from store.errors import StoreUnavailable


class Unavailable(Exception):
    """The outcome is not known, or cannot be had now: nothing acknowledged is lost, and trying again is safe."""


@contextlib.contextmanager
def one_family() -> Iterator[None]:
    """Commands and questions raise `Unavailable` and nothing of the store's, so that callers need to know one family.

    What goes wrong for another reason than the database being away is a fault, and stays what it is.
    """
    try:
        yield
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from error
