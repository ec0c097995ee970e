"""The rules of versions: which number comes next, what may be published, rolled back and removed.

One value, without files or servers: the store on disk and every key store follow the same rules.
"""

import dataclasses
import json
from collections.abc import Mapping

from gemb.checks import UserError
from gemb.identity import Listed, Space, SpaceError, Version
from gemb.identity.versions import STATES

KEEP_GENERATIONS, KEEP_REFRESHES = 5, 2
_FORM = "gemb versions 1"


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What versions a store holds.

    Attributes:
        versions: newest first.
        numbers: generation -> id of its space and its highest refresh, of all that ever were: a
            number is never given twice.
        dropping: generations whose rows a key store is removing.
    """

    versions: tuple[Listed, ...] = ()
    numbers: Mapping[int, tuple[str, int]] = dataclasses.field(default_factory=dict)
    dropping: frozenset[int] = frozenset()

    @property
    def live(self) -> Listed | None:
        """The live version."""
        return next((each for each in self.versions if each.state == "live"), None)

    @property
    def fallback(self) -> Listed | None:
        """The version that a roll-back without a number goes to."""
        live = self.live
        older = (each for each in self.versions if live and each.version < live.version)
        return next((each for each in older if each.readable and each.published), None)

    def find(self, version: Version, store: object) -> Listed:
        """What is listed of a version.

        Raises:
            UserError: the store has no such version.
        """
        found = next((each for each in self.versions if each.version == version), None)
        if found is None:
            held = ", ".join(str(each.version) for each in self.versions) or "none"
            raise UserError(f"{store}: no version {version}; there are: {held}")
        return found

    def next(self, space: Space) -> Version:
        """The number of a new version: a refresh where the space is there, else a generation."""
        same = [each.version.generation for each in self.versions if each.space == space]
        generation = max(same) if same else max(self.numbers, default=0) + 1
        return Version(generation, self.numbers.get(generation, ("", 0))[1] + 1)

    def check_number(self, version: Version, space: Space, store: object) -> None:
        """Checks a number that was given elsewhere.

        Raises:
            SpaceError: its generation is of another space here.
            UserError: the space has another generation here.
        """
        known, _ = self.numbers.get(version.generation, (space.id, 0))
        if known != space.id:
            there = next((e.space for e in self.versions if e.space and e.space.id == known), known)
            raise SpaceError(
                f"{store}: generation {version.generation} is of space {there}, and cannot hold "
                f"vectors of space {space}"
            )
        held = {each.version.generation for each in self.versions if each.space == space}
        if held - {version.generation}:
            raise UserError(
                f"{store}: space {space} is generation {max(held)} here, not {version.generation}"
            )

    def with_version(self, listed: Listed) -> "Ledger":
        """With one version added, or its entry replaced."""
        others = [each for each in self.versions if each.version != listed.version]
        ordered = sorted([*others, listed], key=lambda each: each.version, reverse=True)
        generation, refresh = listed.version
        space, highest = self.numbers.get(generation, ("", 0))
        space = listed.space.id if listed.space else space
        numbers = {**self.numbers, generation: (space, max(refresh, highest))}
        return dataclasses.replace(self, versions=tuple(ordered), numbers=numbers)

    def without(self, *versions: Version) -> "Ledger":
        """Without some versions; their numbers stay taken."""
        kept = tuple(each for each in self.versions if each.version not in versions)
        return dataclasses.replace(self, versions=kept)

    def publish(self, version: Version, store: object) -> "Ledger":
        """With `version` live; a refresh of an older generation is only published.

        Raises:
            UserError: it is not whole, is marked bad, or is older than the live one.
        """
        found, live = self.find(version, store), self.live
        self._check_readable(found, store)
        if live and version < live.version:
            if self._refreshes(found):
                return self.with_version(dataclasses.replace(found, published=True))
            raise UserError(
                f"{store}: version {version} is older than {live.version}, which is live; `gemb "
                f"rollback` goes back to it"
            )
        return self._point(version)

    def roll_back(self, version: Version | None, store: object) -> "Ledger":
        """With an older version live.

        Args:
            version: to go back to; None for the newest older one that was live before.
            store: for messages.

        Raises:
            UserError: there is none, or it is not whole, marked bad, or not older.
        """
        live, target = self.live, self.fallback
        if version is not None:
            target = self.find(version, store)
            self._check_readable(target, store)
        if target is None:
            older = f"older than {live.version} " if live else ""
            raise UserError(f"{store}: no version {older}was published before; name one")
        if live and target.version >= live.version:
            raise UserError(
                f"{store}: version {target.version} is not older than {live.version}, which is live"
            )
        return self._point(target.version)

    def mark(self, version: Version, state: str, store: object) -> "Ledger":
        """With `version` marked "bad", or "ready" again.

        Raises:
            UserError: it is live.
        """
        found = self.find(version, store)
        if found.state == "live":
            raise UserError(f"{store}: version {version} is live; roll back first")
        return self.with_version(dataclasses.replace(found, state=state))

    def old(self, generations: int, refreshes: int) -> list[Listed]:
        """Versions to remove: never the live one, its fallback, or a pinned one.

        Args:
            generations: newest readable generations to keep.
            refreshes: newest versions to keep of each of these.
        """
        if generations < 1 or refreshes < 1:
            raise UserError("retire: keep at least one generation and one refresh")
        live, fallback = self.live, self.fallback
        held = {each.version for each in (live, fallback) if each}
        newest = sorted({e.version.generation for e in self.versions if e.readable}, reverse=True)
        oldest = newest[:generations][-1] if newest else 0

        def passed(each: Listed) -> bool:
            newer = (e for e in self.versions if e.readable and e.space == each.space)
            later = [e for e in newer if e.version > each.version]
            abandoned = each.state == "loading" and live and each.version < live.version
            return abandoned or each.version.generation < oldest or len(later) >= refreshes

        removable = (e for e in self.versions if e.version not in held and not e.pinned)
        return [each for each in removable if passed(each)]

    def _check_readable(self, found: Listed, store: object) -> None:
        if not found.readable:
            why = "is not finished" if found.state == "loading" else "is marked bad or damaged"
            raise UserError(f"{store}: version {found.version} {why}; choose another")

    def _refreshes(self, found: Listed) -> bool:
        """Whether it is new and of an older generation that was published."""
        same = [e for e in self.versions if e.version.generation == found.version.generation]
        older = found.version.generation < self.live.version.generation
        return older and not found.published and any(each.published for each in same)

    def _point(self, version: Version) -> "Ledger":
        """Only states change."""

        def pointed(each: Listed) -> Listed:
            if each.version == version:
                return dataclasses.replace(each, state="live", published=True)
            return dataclasses.replace(each, state="ready") if each.state == "live" else each

        return dataclasses.replace(self, versions=tuple(map(pointed, self.versions)))

    def write(self) -> str:
        """As JSON."""
        versions = [
            dataclasses.asdict(each) | {"version": str(each.version)} for each in self.versions
        ]
        tree = {"format": _FORM, "versions": versions}
        tree |= {"numbers": dict(self.numbers), "dropping": sorted(self.dropping)}
        return json.dumps(tree, sort_keys=True)

    @classmethod
    def read(cls, text: str | bytes, store: object) -> "Ledger":
        """From JSON.

        Raises:
            UserError: it is something else, or of another format.
        """
        try:
            tree = json.loads(text)
            form = tree["format"]
            if form == _FORM:
                numbers = {int(g): (str(s), int(r)) for g, (s, r) in tree["numbers"].items()}
                versions, dropping = map(_listed, tree["versions"]), frozenset(tree["dropping"])
                return cls(tuple(versions), numbers, dropping)
        except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
            raise UserError(
                f"{store}: its list of versions cannot be read ({error!r:.80})"
            ) from None
        raise UserError(f"{store}: of format {form!r:.40}, but this gemb reads {_FORM!r}")


def _listed(tree: dict) -> Listed:
    fields = dict(tree)
    if fields["state"] not in STATES:
        raise ValueError(f"state {fields['state']!r}")
    version, space = Version.parse(fields.pop("version")), Space.read(fields.pop("space"), "space")
    return Listed(version, space, **fields)
