"""The transformer stack: [batch, length, width] in and out, with looped or unrolled layers."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.attention import choose, view
from gemb.models.block import Layer, Start, Surroundings, stack_norm
from gemb.models.execution import REMAT, Execution
from gemb.models.initial import initial
from gemb.models.layers import Embed, Norm
from gemb.models.positions import angles, positions, relative_buckets
from gemb.models.spec import StackSpec
from gemb.parallel.rules import constrain_at_rest


class Stack(nnx.Module):
    """The layers, and what they share: positions, masks, the last norm.

    Weights are stored per layer, however they are computed, so that rules over paths
    ("the last three layers") always work; a loop stacks them inside the step.
    """

    def __init__(self, spec: StackSpec, *, key: jax.Array):
        keys = jax.random.split(key, spec.layers + 1)
        self.layers = nnx.List([Layer(spec, i, key=keys[i]) for i in range(spec.layers)])
        if spec.relative_buckets:
            draw, axes = initial(spec, "relative"), ("positions", "heads")
            rows, heads = spec.relative_buckets, spec.heads
            self.relative = Embed(rows, heads, axes, key=keys[-1], initial=draw)
        if spec.final_norm:
            self.final_norm = stack_norm(spec)
        if spec.layer_input:
            self.layer_input_norm = Norm(spec.layer_input, spec.norm, spec.norm_epsilon)
        self.spec = spec

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        execution: Execution,
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
        turn: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        """Runs the layers.

        Args:
            x: [batch, length, width], in the compute dtype.
            mask: [batch, length] bool.
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer, with the final norm on the last one.
            turn: (cosine, sine) of rotary angles of all layers, in place of the spec's.

        Returns:
            [batch, length, width] or, for every_layer, [layers, batch, length, width].

        Raises:
            ValueError: for float16, where the activations of the model's family exceed its range.
        """
        fits = execution.dtype != "float16" or not self.spec.layer_input
        check(fits, "dtype: the model's activations exceed float16; choose bfloat16 or float32")
        start = Start(x, self.layer_input_norm) if self.spec.layer_input else None
        around = self._surroundings(mask, execution, turn, start)
        head, period, count = _plan(self.spec) if execution.layers == "scan" else (0, 0, 0)
        looped, states = range(head, head + period * count), []
        for number in range(self.spec.layers):
            if number not in looped:
                run = self._runner(number, around, execution)
                x = run(nnx.state(self.layers[number]), x, _fold(key, number))
                states.append(x)
            elif number == head:
                x, seen = self._loop(x, around, execution, key, (head, period, count), every_layer)
                states.extend(seen)
        x = self.final_norm(x) if self.spec.final_norm else x
        return jnp.stack([*states[:-1], x]) if every_layer else x

    def _surroundings(
        self, mask: jax.Array, execution: Execution, given, start: Start | None
    ) -> list[Surroundings]:
        """One per layer; equal ones share their arrays."""
        spec, length = self.spec, mask.shape[-1]
        biased, relative = bool(spec.relative_buckets), None
        if biased:
            buckets = relative_buckets(length, spec.relative_buckets, spec.relative_distance)
            relative = self.relative(jnp.asarray(buckets)).transpose(2, 0, 1)[None]
        places = positions(mask) if spec.rotary else None

        @functools.cache
        def seen(window, backend):
            return view(mask, causal=spec.causal, window=window, relative=relative, backend=backend)

        @functools.cache
        def turn(rotary, size):
            return given if rotary is None else angles(rotary, places, size)

        def around(layer):
            size = spec.heads_of(layer)[1]
            backend = choose(execution, size, spec.score_cap, biased, length)
            how = (backend, execution.dropout, execution.matmul_dtype, start)
            return Surroundings(
                seen(spec.window(layer), backend), turn(spec.turn(layer), size), *how
            )

        return [around(layer) for layer in range(spec.layers)]

    def _runner(self, number: int, around: list[Surroundings], execution: Execution):
        """(state of a layer like this one, x, key) -> x."""
        graph = nnx.graphdef(self.layers[number])

        def run(state, x, key):
            return nnx.merge(graph, state)(x, around[number], key)

        policy = REMAT[execution.remat]
        return run if policy is None else jax.checkpoint(run, policy=policy)

    def _loop(self, x, around, execution, key, plan, every_layer):
        """(x after the looped layers, the [batch, length, width] outputs of each if requested)."""
        head, period, count = plan
        runners = [self._runner(head + i, around, execution) for i in range(period)]
        states = [
            _stacked(
                [nnx.state(self.layers[head + i + period * turn]) for turn in range(count)], x.dtype
            )
            for i in range(period)
        ]

        def body(x, step):
            (states, number), seen = step, []
            for i, run in enumerate(runners):
                x = run(states[i], x, _fold(key, number + i))
                seen.append(x)
            return x, seen if every_layer else []

        numbers = jnp.arange(head, head + period * count, period)
        x, seen = jax.lax.scan(body, x, (states, numbers))
        return x, [parts[turn] for turn in range(count) for parts in seen]


def _fold(key: jax.Array | None, number) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, number)


def _stacked(states: list, dtype):
    """Stacks the states of several layers along a first axis; matrices in the compute dtype."""

    def stack(*variables):
        values = [v.get_value() for v in variables]
        if values[0].ndim > 1:
            values = [value.astype(dtype) for value in values]
        axes = variables[0].get_metadata()["logical_axes"]
        return variables[0].replace(constrain_at_rest(jnp.stack(values), None, *axes))

    return jax.tree.map(stack, *states, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


@functools.cache
def _plan(spec: StackSpec) -> tuple[int, int, int]:
    """(head, period, count): layers head ... head + period * count - 1 repeat after `period`.

    Chooses the plan with the fewest layers to compile; (0, 0, 0) if nothing repeats.
    """
    kinds = [
        (spec.window(i), spec.turn(i), spec.heads_of(i), spec.has_attention_norm(i))
        for i in range(spec.layers)
    ]
    best = (spec.layers, (0, 0, 0))
    for head in range(spec.layers):
        for period in range(1, (spec.layers - head) // 2 + 1):
            count = 1
            while kinds[head : head + period] == kinds[head + period * count :][:period]:
                count += 1
            compiled = spec.layers - period * (count - 1)
            if count > 1 and compiled < best[0]:
                best = (compiled, (head, period, count))
    return best[1]
