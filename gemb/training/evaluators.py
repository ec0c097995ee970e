"""Evaluation during training: scores of the current model at chosen steps."""

from collections.abc import Callable, Mapping

import jax

from gemb.checks import UserError
from gemb.models.model import Model
from gemb.parallel import hosts
from gemb.parallel.mesh import make_mesh


class Evaluators:
    """The evaluators of a run.

    Args:
        functions: name -> (model) -> {score: number}.
        every: steps between evaluations; 0 evaluates only at the end.
        best_by: "name/score" that chooses the best checkpoint; '' for none.
        model: the model in training.
        spec: its spec, with its widths.

    Raises:
        UserError: if best_by does not name an evaluator.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable],
        every: int,
        best_by: str,
        model: Model,
        spec,
    ):
        if best_by and best_by.split("/")[0] not in functions:
            raise UserError(
                f"keep_best: {best_by!r} is not a score of the evaluators {sorted(functions)}; "
                "write it as 'evaluator/score'"
            )
        self.best_by = best_by
        self._functions, self._every, self._model, self._spec = functions, every, model, spec

    def due(self, step: int, last: bool) -> bool:
        """Whether this step ends with an evaluation."""
        return bool(self._functions) and (last or bool(self._every and step % self._every == 0))

    def judge(self, params: dict) -> dict[str, float]:
        """The scores of these parameters, by "evaluator/score"; every process calls it.

        The first process evaluates on its own device and sends the scores to the others.

        Raises:
            UserError: if an evaluator fails, or does not return the score best_by.
        """
        params = hosts.gather(params, wanted=hosts.is_first())
        return hosts.on_first(lambda: self._scores(params))

    def _scores(self, params: dict) -> dict[str, float]:
        model, found = self._model.trained(self._spec, params), {}
        with jax.set_mesh(make_mesh(1, devices=jax.local_devices()[:1])):
            for name, evaluate in self._functions.items():
                scores = evaluate(model)
                found |= {f"{name}/{score}": float(value) for score, value in scores.items()}
        if self.best_by and self.best_by not in found:
            raise UserError(f"keep_best: no score {self.best_by!r} among {sorted(found)}")
        return found
