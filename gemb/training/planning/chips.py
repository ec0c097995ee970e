"""Accelerators by name: what a dry run needs to know about chips that are not attached.

Figures are the vendors', for dense bfloat16; links count one direction.

Reference: https://docs.cloud.google.com/tpu/docs/v5e, .../v5p and .../v6e ("peak compute per chip
(bf16)", "HBM capacity", "inter-chip interconnect": 400, 1,200 and 800 GB/s both ways);
https://www.nvidia.com/en-us/data-center/h100/ and .../h200/ (SXM: 1,979 TFLOP/s with sparsity, half
without; NVLink 900 GB/s both ways). Between hosts a GPU has one 400 Gbit/s card, as in
https://docs.nvidia.com/dgx/dgxh100-user-guide/.
"""

import dataclasses

from gemb.checks import UserError, suggest


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: the name in --chips.
        kinds: prefixes of JAX's names of such devices.
        flops: peak bfloat16 FLOP/s of matrix products.
        memory: bytes.
        link: maximal bytes/s that it receives from chips of its host or pod.
        island: number of chips with such links; 0 for any number.
        network: bytes/s that all chips of an island together receive from another island.
    """

    name: str
    kinds: tuple[str, ...]
    flops: float
    memory: float
    link: float
    island: int = 0
    network: float = 0.0

    def bandwidth(self, chips: int) -> float:
        """Bytes/s that each of `count` chips receives in a collective over all of them.

        Data for all chips of an island enters it once, over all its network cards.
        """
        if not self.island or chips <= self.island:
            return self.link
        return min(self.link, self.network)


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", ("TPU v5 lite", "TPU v5e"), 197e12, 16e9, 200e9),
        Chip("v5p", ("TPU v5p", "TPU v5"), 459e12, 95e9, 600e9),
        Chip("v6e", ("TPU v6 lite", "TPU v6e"), 918e12, 32e9, 400e9),
        Chip("h100", ("NVIDIA H100",), 989.5e12, 80e9, 450e9, island=8, network=8 * 50e9),
        Chip("h200", ("NVIDIA H200",), 989.5e12, 141e9, 450e9, island=8, network=8 * 50e9),
    )
}


def peak_flops(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device, by its JAX name; None if it is not known.

    Example:
        >>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("TPU v5 lite"), peak_flops("cpu")
        (989500000000000.0, 197000000000000.0, None)
    """
    known = (chip.flops for chip in CHIPS.values() if kind.startswith(chip.kinds))
    return next(known, None)


def parse(text: str) -> tuple[Chip, int]:
    """Reads NAME:COUNT.

    Raises:
        UserError: for an unknown chip or a count that is not 1 or more.

    Example:
        >>> chip, count = parse("v5e:64")
        >>> chip.name, count
        ('v5e', 64)
    """
    name, _, count = text.partition(":")
    if name.lower() not in CHIPS:
        known = ", ".join(CHIPS)
        raise UserError(
            f"--chips: unknown {name!r}; expected one of {known}.{suggest(name, CHIPS)}"
        )
    if not count.isdecimal() or not int(count):
        raise UserError(f"--chips: expected NAME:COUNT such as {name}:64, got {text!r}")
    return CHIPS[name.lower()], int(count)
