"""Experiments as the server runs them."""

import asyncio
import random
import time
from pathlib import Path

from gemb.checks import UserError
from gemb.serving import searching
from gemb.serving.experiments import arms as files
from gemb.serving.experiments.arms import Arm, Experiment
from gemb.serving.experiments.exposures import Exposures
from gemb.serving.experiments.interleaving import team_draft
from gemb.serving.experiments.rollout import Outcome, Progress
from gemb.serving.http import wire
from gemb.serving.http.errors import ApiError
from gemb.serving.http.web import Context, log_line
from gemb.serving.state import State

_NEW, _OLD = "new", "old"


class Experiments:
    """Chooses what answers each search, and logs it.

    The file is read again when it changes; a broken one is reported in the log and the experiments
    before stay. A unit is the user id of the request, else its header X-Unit, else the request.

    Args:
        state: of the server.
        file: of experiments.
        exposures: where answers are logged; None for nowhere.

    Raises:
        UserError: the file is broken.
    """

    def __init__(self, state: State, file: str, exposures: Exposures | None = None):
        self._state, self._file, self._exposures = state, Path(file).expanduser(), exposures
        self._by_index: dict[str, Experiment] = {}
        self._progress: dict[str, Progress] = {}
        self._stamp, self._shadows = None, set()
        self._read()

    def look(self) -> bool:
        """Reads the file again if it changed."""
        try:
            if self._stamped() == self._stamp:
                return False
            self._read()
            return True
        except (OSError, UserError) as error:
            log_line({"event": "experiments not read", "error": str(error)})
            return False

    def _stamped(self):
        found = self._file.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        stamp = self._stamped() if self._file.exists() else None
        self._stamp = stamp  # also of a broken file, which is reported once
        found = files.read(self._file)
        by_index = {}
        for each in found:
            name = self._state.chain(each.index).name if self._known(each) else ""
            if not name or name in by_index:
                raise UserError(
                    f"{self._file}: {each.name}: needs an index of its own that is served"
                )
            by_index[name] = each
        plans = {each.name: each.rollout for each in found if each.rollout}
        self._progress = {
            name: self._progress[name]
            if name in self._progress and self._progress[name].plan == plan
            else Progress(plan)
            for name, plan in plans.items()
        }
        self._by_index = by_index

    def _known(self, experiment: Experiment) -> bool:
        return not experiment.index or experiment.index in self._state.chains

    def close(self) -> None:
        """Closes the log."""
        if self._exposures is not None:
            self._exposures.close()

    async def search(self, state: State, asked: wire.Search, context: Context) -> dict:
        """Answers a search by the arm of its unit; see `gemb.serving.searching.search`."""
        chain = state.chain(asked.index)
        experiment = self._by_index.get(chain.name)
        plain = asked.version is None and asked.query is not None
        if experiment is None or not plain:
            return await searching.search(state, asked, context)
        unit = asked.user_id or context.header("x-unit") or context.id
        arm = self._arm(experiment, unit)
        if arm is None:
            return await searching.search(state, asked, context)
        answer, teams = await self._answered(state, experiment, arm, asked, context)
        answer |= {"experiment": experiment.name, "arm": arm.name}
        self._log(experiment, arm, unit, answer, teams)
        if experiment.shadow and random.random() < experiment.shadow_share:
            self._shadow(state, experiment, asked, answer)
        return answer

    def _arm(self, experiment: Experiment, unit: str) -> Arm | None:
        if experiment.rollout is None:
            return experiment.arm(unit)
        progress = self._progress[experiment.name]
        place = files.bucket(experiment.salt or experiment.name, unit)
        self._state.metrics.rollout.labels(experiment.name).set(progress.share)
        if place < progress.share * files.BUCKETS:
            return Arm(_NEW, progress.share, experiment.rollout.new)
        return Arm(_OLD, 1 - progress.share, experiment.rollout.old)

    async def _answered(
        self, state: State, experiment: Experiment, arm: Arm, asked: wire.Search, context: Context
    ) -> tuple[dict, list[str] | None]:
        start = time.monotonic()
        outcome = Outcome(0.0, failed=True)
        try:
            answer = await searching.search(
                state, asked, context, prefer=arm.answer or None, arm=arm.name
            )
            other = arm.answer not in ("", answer["version"], answer["retriever"])
            if other and not answer["fallback"]:
                answer["fallback"] = "arm_absent"
            outcome = Outcome(0.0, False, other, not answer["hits"])
        except ApiError as error:
            outcome = outcome._replace(failed=error.status >= 500)
            raise
        finally:
            seconds = time.monotonic() - start
            self._judge(experiment, arm, outcome._replace(seconds=seconds))
        if arm.interleave is None:
            return answer, None
        second = await searching.search(state, asked, context, prefer=arm.interleave, arm=arm.name)
        ranked = [[hit["id"] for hit in each["hits"]] for each in (answer, second)]
        joined = team_draft(*ranked, asked.k, random.Random(context.id))
        hits = {hit["id"]: hit for each in (second, answer) for hit in each["hits"]}
        answer["hits"] = [hits[name] for name, _ in joined]
        answer["seconds"] = {
            stage: answer["seconds"].get(stage, 0.0) + taken
            for stage, taken in second["seconds"].items()
        }
        return answer, [team for _, team in joined]

    def _judge(self, experiment: Experiment, arm: Arm, outcome: Outcome) -> None:
        progress = self._progress.get(experiment.name)
        if progress is not None:
            said = progress.add(arm.answer, outcome)
            if said:
                log_line({"event": "roll-out", "experiment": experiment.name, "what": said})

    def _log(
        self, experiment: Experiment, arm: Arm, unit: str, answer: dict, teams: list[str] | None
    ) -> None:
        if self._exposures is None:
            return
        line = {
            "time": round(time.time(), 3),
            "experiment": experiment.name,
            "arm": arm.name,
            "unit": files.unit_hash(experiment.salt or experiment.name, unit),
            "version": answer["version"],
            "retriever": answer["retriever"],
            "fallback": answer["fallback"],
            "hits": [hit["id"] for hit in answer["hits"]],
            "request_id": answer["request_id"],
        }
        self._exposures.write(line | ({"teams": teams} if teams else {}))

    def _shadow(
        self, state: State, experiment: Experiment, asked: wire.Search, answer: dict
    ) -> None:
        """Asks another version as well, after the answer, and compares the first ten."""

        async def compare() -> None:
            context = Context({})
            try:
                other = await searching.search(
                    state, asked, context, prefer=experiment.shadow, arm="shadow"
                )
            except ApiError:
                return
            first, second = ({hit["id"] for hit in each["hits"][:10]} for each in (answer, other))
            most = max(len(first), len(second), 1)
            state.metrics.shadow.observe(len(first & second) / most)

        task = asyncio.ensure_future(compare())
        self._shadows.add(task)  # kept until it is done
        task.add_done_callback(self._shadows.discard)
