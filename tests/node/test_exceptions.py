"""What is raised is made where it is raised."""

from __future__ import annotations

import importlib
import pkgutil

import actors
import api
import bus
import node
import store


def test_no_exception_is_shared() -> None:
    """An exception keeps the frames of all the times it was raised, and what they hold: connections, bodies."""
    shared = []
    for package in (actors, api, bus, node, store):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                module = importlib.import_module(found.name)
                shared += [f"{found.name}.{name}" for name, value in vars(module).items() if isinstance(value, BaseException)]
    assert not shared
