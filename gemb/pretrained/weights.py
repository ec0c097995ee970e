"""safetensors files to and from parameters, each tensor checked and used exactly once.

Nothing is ever unpickled: only safetensors is read.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError, suggest
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.pretrained.families.family import Family, Tensor
from gemb.pretrained.modules import WEIGHTS

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


# What the first BERT called the parts of its norms, as bert-base-uncased still does.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BUFFERS = ("rotary_emb.inv_freq",)  # computed from config.json


class TensorFiles(Mapping):
    """The tensors of a model folder by name, read from one or several files when asked for.

    Args:
        folder: holds model.safetensors, or its index and the files that it names.

    Raises:
        UserError: if a file is missing, truncated or not safetensors, or if there are only pickled
            weights.
    """

    def __init__(self, folder: Path):
        self._where = {}
        for file in _files(folder):
            handle = _open(file)
            self._where |= dict.fromkeys(handle.keys(), (file, handle))

    def __getitem__(self, name: str) -> np.ndarray:
        file, handle = self._where[name]
        try:
            return handle.get_tensor(name)
        except Exception as error:  # the Rust library raises its own kinds
            raise UserError(f"{file}: tensor {name} cannot be read ({error})") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._where[name][1].get_slice(name).get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / _INDEX).exists():
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
            return [folder / name for name in sorted(set(index.values()))]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{folder / _INDEX}: not an index of weights ({error!r})") from None
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise UserError(
            f"{folder}: holds only pickled weights ({pickles[0]}), which can run any code when "
            "read; gemb reads safetensors only. Save the model as safetensors first"
        )
    raise UserError(
        f"{folder / WEIGHTS}: no such file; fetch the model again with `gemb fetch --force`"
    )


def _open(file: Path):
    import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy)
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{file}: not a readable safetensors file ({error}); fetch it again with --force"
        ) from None


def params_from_tensors(
    tensors: Mapping[str, np.ndarray], family: Family, spec: TowerSpec, source
) -> tuple[dict, dict]:
    """Renames, splits and transposes published tensors.

    Args:
        tensors: tensor name -> array.
        family: whose names they have.
        spec: the model whose encoder they should fill.
        source: what to call the file in errors.

    Returns:
        (params, kept): flat float32 parameters of the encoder, and known tensors that no embedding
        needs, to be written back.

    Raises:
        UserError: naming a missing, left over, misshapen or not finite tensor.
    """
    stored = _stored(tensors, family, spec, source)
    table = _table(family, spec, stored)
    aliases = {name: alias for alias, name in family.aliases.items() if alias in stored}
    shapes = {path: leaf.shape for path, leaf in functional(ModelSpec.of(spec)).shapes.items()}
    params, used = {}, set()
    for path, tensor in table.items():
        name = tensor.name if tensor.name in stored else aliases.get(tensor.name, tensor.name)
        if name not in stored:
            raise UserError(f"{source}: tensor {name} is missing.{suggest(name, stored)}")
        value = np.asarray(tensors[stored[name]])
        params[path] = parameter(value, tensor, shapes[path], f"{source}: tensor {name}")
        used.add(name)
    _check_aliases(tensors, stored, family, used, source)
    kept = {
        name: np.asarray(tensors[stored[name]], np.float32)
        for name in stored
        if name.startswith(family.kept) and name not in used
    }
    known = used | set(kept) | set(family.aliases)
    known |= {name for name in stored if name.endswith(_BUFFERS)}
    leftover = sorted(n for n in stored if n not in known and not n.startswith(family.dropped))
    if leftover:
        raise UserError(f"{source}: {len(leftover)} tensors left over: {', '.join(leftover[:5])}")
    return params, kept


def _stored(tensors, family: Family, spec: TowerSpec, source) -> dict[str, str]:
    """{the name of a tensor in the family's words: its name in the file}."""
    outer = _wrapper(tensors, family, spec)
    stored = {}
    for name in tensors:
        bare = _bare(name.removeprefix(outer), family.prefixes)
        for old, new in _OLD_NAMES.items():
            bare = bare.removesuffix(old) + new if bare.endswith(old) else bare
        if bare in stored:
            raise UserError(f"{source}: {stored[bare]} and {name} are the same tensor")
        stored[bare] = name
    return stored


def _wrapper(tensors, family: Family, spec: TowerSpec) -> str:
    """What the names of a whole program's model begin with, such as "0.auto_model."."""
    table = next(iter(family.tensors[0](spec.encoder).values())).name
    for name in tensors:
        if name.endswith(f".{table}"):
            outer = name.removesuffix(table)
            prefix = next((p for p in family.prefixes if outer.endswith(p)), "")
            return outer.removesuffix(prefix)
    return ""


def _bare(name: str, prefixes: tuple[str, ...]) -> str:
    return next((name.removeprefix(p) for p in prefixes if name.startswith(p)), name)


def _table(family: Family, spec: TowerSpec, stored: dict) -> dict[str, Tensor]:
    """The table of names that finds most of its tensors in the file."""
    tables = [make(spec.encoder) for make in family.tensors]
    return max(tables, key=lambda table: sum(tensor.name in stored for tensor in table.values()))


def parameter(value: np.ndarray, tensor: Tensor, shape: tuple, what: str) -> np.ndarray:
    """The parameter of this shape in a published tensor; `what` is what errors call it.

    Raises:
        UserError: for another shape, or NaN and infinity.
    """
    expected = shape[::-1] if tensor.transposed else shape
    expected = (expected[0] * tensor.parts, *expected[1:])
    if value.shape != expected:
        raise UserError(f"{what} has shape {value.shape}, expected {expected}")
    value = np.split(value, tensor.parts)[tensor.part].astype(np.float32)
    if not np.isfinite(value).all():
        raise UserError(f"{what} holds NaN or infinity")
    return np.ascontiguousarray(value.T if tensor.transposed else value)


def _check_aliases(tensors, stored, family: Family, used: set, source) -> None:
    for alias, name in family.aliases.items():
        both = alias in stored and name in stored
        if both and not np.array_equal(tensors[stored[alias]], tensors[stored[name]]):
            raise UserError(f"{source}: {alias} and {name} should be equal (tied), and are not")
        used.add(alias)


def tensors_from_params(
    params: dict, kept: dict, family: Family, spec: TowerSpec, dtype=np.float32
) -> dict[str, np.ndarray]:
    """The inverse of `params_from_tensors`, for saving.

    Args:
        params: flat parameters; those of the encoder are written.
        kept: what `params_from_tensors` kept.
        family, spec: the model's.
        dtype: of the tensors written.

    Returns:
        {tensor name: array}.
    """
    parts = {}
    for path, tensor in family.tensors[0](spec.encoder).items():
        value = np.asarray(params[path])
        value = value.T if tensor.transposed else value
        parts.setdefault(tensor.name, [None] * tensor.parts)[tensor.part] = value
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return {
        name: np.ascontiguousarray(value.astype(dtype)) for name, value in (kept | joined).items()
    }
