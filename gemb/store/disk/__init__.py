"""Versions on disk: immutable folders, one file that names the live one, one writer."""

from gemb.store.disk.draft import Draft
from gemb.store.disk.reader import Follower, Opened, open_version
from gemb.store.disk.store import VersionStore

__all__ = ["Draft", "Follower", "Opened", "VersionStore", "open_version"]
