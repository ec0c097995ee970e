"""Stages of a release: each is done once for its inputs, and noted in release.json."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gemb.checks import UserError, suggest
from gemb.files import read_object, write_json

FILE, FORMAT, VERSION = "release.json", "gemb release", 1
NAMES = ("train", "gate", "embed", "index", "verify", "load", "publish")


class Stages:
    """Runs stages in a folder; what was done with the same inputs is not done again.

    Args:
        workdir: of the release.
        chosen: names of stages to run; none for all.
        say: prints a line.

    Raises:
        UserError: an unknown stage, or a file of another format version.
    """

    def __init__(self, workdir: Path, chosen: Sequence[str] = (), say: Callable = print):
        for name in chosen:
            if name not in NAMES:
                raise UserError(
                    f"--stages: unknown {name!r}; known are {', '.join(NAMES)}."
                    f"{suggest(name, NAMES)}"
                )
        self._path, self._chosen, self._say = workdir / FILE, chosen or NAMES, say
        found = read_object(self._path)
        if found and (found.get("format"), found.get("version")) != (FORMAT, VERSION):
            raise UserError(
                f"{self._path}: of format {found.get('format')!r} version {found.get('version')!r},"
                f" but this gemb reads {FORMAT!r} version {VERSION}; choose another --workdir"
            )
        self.done: dict[str, dict] = found.get("stages", {})
        self.ran: list[str] = []

    def wanted(self, name: str) -> bool:
        """Whether a stage was chosen."""
        return name in self._chosen

    def run(
        self, name: str, inputs: str, work: Callable[[], tuple[str, dict]], *, there: bool = True
    ) -> dict | None:
        """Runs a stage, unless it is not chosen, or was done with the same inputs.

        Args:
            name: one of `NAMES`.
            inputs: a digest of all that it depends on.
            work: () -> what it made, such as a path, and counts to note.
            there: whether what it made before is still there.

        Returns:
            {"input", "output", "seconds", "counts"} of the stage; None where it is not chosen.
        """
        place = f"[{NAMES.index(name) + 1}/{len(NAMES)}] {name}"
        if not self.wanted(name):
            self._say(f"{place}: left out")
            return None
        known = self.done.get(name)
        if known and known["input"] == inputs and there:
            self._say(f"{place}: done before ({known['output']})")
            return known
        self._say(f"{place} ...")
        start = time.perf_counter()
        output, counts = work()
        seconds = round(time.perf_counter() - start, 2)
        made = {"input": inputs, "output": output, "seconds": seconds, "counts": counts}
        self.done[name] = made
        self.ran.append(name)
        tree = {"format": FORMAT, "version": VERSION, "stages": self.done}
        write_json(self._path, tree, sync=True)
        said = ", ".join(f"{key} {value}" for key, value in counts.items())
        self._say(f"{place}: {output} ({said}; {seconds:.1f} s)" if said else f"{place}: {output}")
        return made

    def summary(self) -> str:
        """One line per stage that is noted."""
        rows = [
            f"  {name:<8} {self.done[name]['seconds']:>9.1f} s  {self.done[name]['output']}"
            for name in NAMES
            if name in self.done
        ]
        return "\n".join(rows)
