"""What changes only the ledger of a store, wherever a server keeps it: roll back, marks, pins."""

import dataclasses
from collections.abc import Callable

from gemb.identity import Version
from gemb.store.ledger import Ledger


class Marking:
    """A store whose ledger is a text on a server; a store adds how that text is changed."""

    _parsed: tuple[bytes | None, Ledger] = (None, Ledger())

    def _change(self, function: Callable[[Ledger], Ledger]) -> None:
        raise NotImplementedError

    def _parse(self, text: bytes | None) -> Ledger:
        """Parsed once for as long as it stays the same."""
        if text is None:
            return Ledger()
        known, ledger = self._parsed
        if known != text:
            ledger = Ledger.read(text, self)
            self._parsed = (text, ledger)
        return ledger

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live.

        Args:
            version: None for the newest older one that was live before.
            why: kept with the version.

        Returns:
            The version that is live now.

        Raises:
            UserError: there is none, or it is marked bad.
        """
        chosen = []

        def pointed(ledger: Ledger) -> Ledger:
            ledger = ledger.roll_back(version, self)
            live = ledger.live
            chosen[:] = [live.version]
            about = live.about | {"rolled_back": why}
            return ledger.with_version(dataclasses.replace(live, about=about))

        self._change(pointed)
        return chosen[0]

    def mark_bad(self, version: Version, *, why: str) -> None:
        """Marks a version so that it is never read; the live one has to be rolled back first."""

        def marked(ledger: Ledger) -> Ledger:
            ledger = ledger.mark(version, "bad", self)
            found = ledger.find(version, self)
            about = found.about | {"marked_bad": why}
            return ledger.with_version(dataclasses.replace(found, about=about))

        self._change(marked)

    def pin(self, version: Version, *, why: str, pinned: bool = True) -> None:
        """Keeps a version whatever its age, or no longer."""

        def kept(ledger: Ledger) -> Ledger:
            found = ledger.find(version, self)
            about = found.about | {"pinned": why}
            return ledger.with_version(dataclasses.replace(found, pinned=pinned, about=about))

        self._change(kept)
