"""The reference of a stream of vectors: what it looked like when nothing was wrong.

    reference.json   format, version, fingerprint, rows, dim, calibrated sizes, canaries' file
    arrays.safetensors  mean, axes, clusters, directions, prototypes, quantiles, moments, windows
                     without drift
    words.json       words of its texts with the share of texts that have them

The folder holds no vector of a row and no text. Its size does not depend on the number of rows,
but for 8 bytes per row that find copies.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.analysis.drift import calibration, inputs, topics
from gemb.analysis.drift.clusters import k_means, nearest_centre
from gemb.analysis.drift.panel import TESTS, Geometry, Means, statistics, topic_directions
from gemb.analysis.drift.verdict import Verdict, findings
from gemb.checks import UserError
from gemb.files import local_folder, read_manifest, reading_arrays, save_arrays
from gemb.identity import SpaceError
from gemb.inference.canaries import Canaries, CanaryCheck
from gemb.metrics import distances

FORMAT, VERSION = "gemb drift reference", 1
MANIFEST, WORDS = "reference.json", "words.json"
_FIELDS = {"fingerprint": str, "rows": int, "dim": int, "unit": bool, "sizes": list}
_MOST = 20_000  # rows that windows without drift are drawn from
_CLUSTERS, _PROTOTYPES, _AXES, _FEATURES, _QUANTILES = 32, 64, 32, 1_024, 101
_SMALL, _SMALL_ROWS = 256, 6_000  # topics whose directions are watched, rows that find them
_FAR = 0.95  # share of the reference that is not far from everything
_GATE = 0.02  # share of a topic whose effect is the least that alarms


class Reference:
    """What windows are compared with; made by `fit`, kept as a folder.

    Attributes:
        fingerprint: of the model whose vectors they are; "" if unknown.
        rows, dim: of the reference.
        unit: whether its vectors have unit length.
        geometry: maps a row to what it gives, see `gemb.analysis.drift.panel`.
        means: of the reference.
        null: size -> [windows, tests] statistics of windows without drift.
        canaries: of the model; None if it was not given.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> old, new = rng.normal(size=(600, 8)), rng.normal(size=(200, 8))
        >>> reference = Reference.fit(old, sizes=(200,), windows=200)
        >>> reference.judge(new).drifted, reference.judge(new + 1).drifted
        (False, True)
    """

    def __init__(self, about: Mapping, geometry: Geometry, arrays: Mapping, words: Mapping):
        self.fingerprint, self.rows = about["fingerprint"], about["rows"]
        self.dim, self.unit = about["dim"], about["unit"]
        self.geometry, self._arrays, self._words = geometry, dict(arrays), dict(words)
        self.means = Means(*(self._arrays[f"means.{name}"] for name in Means._fields))
        self.null = {size: self._arrays[f"null.{size}"] for size in about["sizes"]}
        self.canaries: Canaries | None = None
        self._scaled: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of the last size

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        *,
        fingerprint: str = "",
        sizes: Sequence[int] = calibration.SIZES,
        texts: Sequence[str] | None = None,
        ids: Sequence | None = None,
        canaries: Canaries | None = None,
        windows: int = calibration.WINDOWS,
        seed: int = 0,
        repeats: bool = False,
    ) -> "Reference":
        """Fits a reference and its thresholds.

        Args:
            vectors: [rows, dim] floats; 5,000 rows or more find a shift of 5 %.
            fingerprint: of the model that made them, `gemb.Embedder.fingerprint`.
            sizes: rows of windows to calibrate for; those above half of the rows are calibrated
                there and scaled.
            texts: of the rows; the reference keeps their words.
            ids: of the rows; windows with one of them are refused.
            canaries: of the model, see `gemb.inference.canaries`.
            windows: windows without drift for each size, 1,000 or more for alpha = .01.
            seed: of all draws.
            repeats: allow more than a fifth of the rows to be copies.

        Raises:
            UserError: vectors that cannot be measured, or fewer than 100 rows.
        """
        rows = inputs.checked("reference", vectors, repeats=repeats)
        if len(rows) < 2 * inputs.SMALLEST:
            raise UserError(f"reference: {len(rows)} rows are too few; collect 5,000 or more")
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(rows))[:_MOST]
        used, half = rows[chosen], len(chosen) // 2
        geometry, far = _geometry(used, half, seed)
        means = geometry.means(used)._replace(far=far.mean(dtype=np.float64))
        wanted = sorted({min(size, half) for size in sizes})
        null = {
            size: calibration.null_windows(used, geometry, far, size, windows=windows, seed=seed)
            for size in wanted
        }
        arrays = {f"means.{name}": np.asarray(value) for name, value in means._asdict().items()}
        arrays |= {f"null.{size}": table for size, table in null.items()}
        arrays["gates"] = _gates(geometry, means, used, far)
        arrays["quantiles"] = np.quantile(geometry.on_axes(used), np.linspace(0, 1, _QUANTILES), 0)
        arrays["hashes"] = np.unique(inputs.row_hashes(rows))
        arrays["ids"] = inputs.id_hashes(ids if ids is not None else ())
        about = {"fingerprint": fingerprint, "rows": len(rows), "dim": rows.shape[1]}
        about |= {"unit": inputs.has_unit_length(rows), "sizes": wanted}
        words = topics.word_shares(texts) if texts is not None else {}
        made = cls(about, geometry, arrays, {w: s for w, s in words.items() if s * len(texts) >= 2})
        made.canaries = canaries
        return made

    @property
    def hashes(self) -> np.ndarray:
        """A number for each different row, sorted."""
        return self._arrays["hashes"]

    @property
    def ids(self) -> np.ndarray:
        """A number for each id."""
        return self._arrays["ids"]

    @property
    def gates(self) -> np.ndarray:
        """[tests] the least effects that alarm."""
        return self._arrays["gates"]

    def judge(
        self,
        window: np.ndarray,
        *,
        alpha: float = 0.01,
        texts: Sequence[str] | None = None,
        ids: Sequence | None = None,
        fingerprints: str | Sequence[str] = "",
        encode: Callable[..., np.ndarray] | None = None,
        repeats: bool = False,
        name: str = "window",
    ) -> Verdict:
        """The verdict on a window of vectors.

        Args:
            window: [rows, dim] floats, 50 rows to as many as the reference has; 1,000 find a shift
                of 5 %, bugs show at 200.
            alpha: share of windows without drift that may alarm.
            texts: of the rows, to show those of the topic that grew.
            ids: of the rows.
            fingerprints: of the model of the window, or of each row; "" if unknown.
            encode: encodes the canaries with the model as it runs now, `gemb.Embedder.encode`.
            repeats: allow more than a fifth of the rows to be copies.
            name: what messages call the window.

        Raises:
            SpaceError: all rows are of another model than the reference's.
            UserError: vectors that cannot be compared, or alpha out of range.
        """
        if not 0 < alpha < 1:
            raise UserError(f"alpha: expected a number between 0 and 1, got {alpha}")
        foreign = self._foreign(fingerprints, name)
        rows = inputs.checked(name, window, repeats=repeats)
        inputs.check_window(self, rows, name)
        if ids is not None:
            inputs.check_ids(self, ids, name)
        now = self.geometry.means(rows)
        values = statistics(now, self.means, self.geometry)
        found = self.against_null(values, len(rows), alpha)
        tests = findings(found, self.gates, alpha)
        shares = self.means.topics
        grown = topics.grown(self.geometry, shares, now.topics, rows, texts, self._words)
        return Verdict(
            rows=len(rows),
            alpha=alpha,
            p=float(found.adjusted.min()),
            tests=tests,
            topics=grown,
            foreign=foreign,
            canaries=self._canary_check(encode),
        )

    def against_null(self, values: np.ndarray, size: int, alpha: float) -> calibration.Judged:
        """A window's statistics against those of windows of its size without drift.

        Args:
            values: [tests] statistics of the window.
            size: its rows.
            alpha: share of windows without drift that may alarm.
        """
        if size not in self._scaled:
            nearest = min(self.null, key=lambda each: abs(np.log(each / size)))
            luck = calibration.unlucky(self.null[max(self.null)])
            used, null = min(self.rows, _MOST), self.null[nearest]
            made = calibration.rescaled(null, nearest, size, used, luck)
            self._scaled = {size: (made, calibration.shares_above(null))}
        null, chance = self._scaled[size]
        return calibration.judged(values, null, alpha, chance)

    def named_tests(self, window: np.ndarray) -> dict[str, distances.Distance]:
        """Distances that are asked for by name; they give no verdict.

        Args:
            window: [rows, dim] floats.

        Returns:
            "gaussian_kl" on the main axes, and over the axes the mean and largest "psi" and the
            largest "ks", each with its expected value without drift.
        """
        rows = inputs.checked("window", window, repeats=True)
        inputs.check_window(self, rows, "window")
        on_axes, quantiles = self.geometry.on_axes(rows), self._arrays["quantiles"]
        size, used = len(rows), min(self.rows, _MOST)
        psi, ks, grid = [], [], np.linspace(0, 1, _QUANTILES)
        for column, edges in zip(on_axes.T[:16], quantiles.T[:16], strict=True):
            bins = np.bincount(np.searchsorted(edges[10:-1:10], column), minlength=10)
            psi.append(distances.psi(np.full(10, used / 10), bins))
            known = np.interp(np.sort(column), edges, grid)
            steps = np.arange(size + 1) / size
            gap = max(np.abs(known - steps[1:]).max(), np.abs(known - steps[:-1]).max())
            ks.append(float(gap))
        root = np.sqrt(1 / size + 1 / used)
        made = {
            "psi mean": distances.Distance(float(np.mean([p.value for p in psi])), psi[0].expected),
            "psi max": max(psi),
            "ks max": distances.Distance(max(ks), float(np.sqrt(np.pi / 2) * np.log(2) * root)),
        }
        if size > 2 * on_axes.shape[1]:
            made["gaussian kl"] = self._gaussian_kl(on_axes, used)
        return made

    def save(self, folder: str | Path) -> "Reference":
        """Writes the reference as a folder, whole or not at all; returns itself.

        Raises:
            UserError: the folder holds something else, or cannot be written.
        """
        about = {"format": FORMAT, "version": VERSION, "tests": TESTS, "sizes": [*self.null]}
        for name in ("fingerprint", "rows", "dim", "unit"):
            about[name] = getattr(self, name)
        g = self.geometry
        about |= {"scale": g.scale, "features": g.features, "limits": list(g.limits)}
        arrays = self._arrays | {"mean": g.mean, "axes": g.axes, "clusters": g.clusters}
        arrays["directions"] = g.directions
        arrays |= {"prototypes.0": g.prototypes[0], "prototypes.1": g.prototypes[1]}
        place = local_folder("reference", folder)
        save_arrays(place, MANIFEST, about, arrays, what="a reference", more=self._save_more)
        return self

    def _save_more(self, folder: Path) -> None:
        (folder / WORDS).write_text(json.dumps(self._words), encoding="utf-8")
        if self.canaries is not None:
            self.canaries.write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Reference":
        """Reads what `save` wrote.

        Raises:
            UserError: no reference there, or a broken one.
        """
        place = local_folder("reference", folder)
        about = read_manifest(place / MANIFEST, FORMAT, VERSION, _FIELDS, "gemb drift --fit")
        with reading_arrays(place) as arrays:
            words = json.loads((place / WORDS).read_text(encoding="utf-8"))
            geometry = Geometry(
                *(arrays.pop(name) for name in ("mean", "axes", "clusters", "directions")),
                (arrays.pop("prototypes.0"), arrays.pop("prototypes.1")),
                tuple(about["limits"]),
                about["scale"],
                about["features"],
            )
            made = cls(about, geometry, arrays, words)
        made.canaries = Canaries.read(place)
        return made

    def _foreign(self, fingerprints: str | Sequence[str], name: str) -> float:
        if not self.fingerprint or not len(fingerprints):
            return 0.0
        every = [fingerprints] if isinstance(fingerprints, str) else list(fingerprints)
        share = sum(each != self.fingerprint for each in every) / len(every)
        if share == 1:
            raise SpaceError(
                f"{name}: vectors of the model with fingerprint {every[0]}, but the reference is "
                f"of {self.fingerprint}: that is another model, not drift. Fit a reference of the "
                "new model, or map the vectors with `gemb adapter`"
            )
        return share

    def _canary_check(self, encode) -> CanaryCheck | None:
        return self.canaries.check(encode) if encode and self.canaries is not None else None

    def _gaussian_kl(self, on_axes: np.ndarray, used: int) -> distances.Distance:
        mean = (self.means.vectors - self.geometry.mean) @ self.geometry.axes
        before = self.means.products - np.outer(mean, mean)
        now = np.cov(on_axes, rowvar=False)
        gap, axes = on_axes.mean(axis=0) - mean, len(mean)
        logs = np.linalg.slogdet(before)[1] - np.linalg.slogdet(now)[1]
        solved = np.linalg.solve(before, np.column_stack([now, gap]))
        value = (np.trace(solved[:, :axes]) + gap @ solved[:, axes] - axes + logs) / 2
        free = axes + axes * (axes + 1) / 2
        return distances.Distance(float(value), free / 2 * (1 / len(on_axes) + 1 / used))


def _geometry(rows: np.ndarray, half: int, seed: int) -> tuple[Geometry, np.ndarray]:
    """The geometry of a reference in random order, and whether each row is far.

    Prototypes of each half judge the rows of the other one, as they judge rows that come later.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(rows)
    values, axes = np.linalg.eigh(covariance)
    kept = min(_AXES, int(np.sum(values > 1e-9 * values[-1])))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :kept])
    clusters = k_means(rows, min(_CLUSTERS, len(rows) // 10), seed=seed)
    few = rows[:_SMALL_ROWS]
    small = k_means(few, min(_SMALL, len(few) // 10), seed=seed)
    directions = topic_directions(mean, covariance, small)
    count = min(_PROTOTYPES, half // 10)
    prototypes = (k_means(rows[:half], count, seed=seed), k_means(rows[half:], count, seed=seed))
    apart = (
        nearest_centre(rows[half:], prototypes[0])[1],
        nearest_centre(rows[:half], prototypes[1])[1],
    )
    limits = tuple(float(np.quantile(each, _FAR)) for each in apart)
    far = np.concatenate([apart[1] > limits[1], apart[0] > limits[0]]).astype(np.float32)
    scale = distances.median_distance(rows)
    return Geometry(mean, axes, clusters, directions, prototypes, limits, scale, _FEATURES), far


def _gates(geometry: Geometry, means: Means, rows: np.ndarray, far: np.ndarray) -> np.ndarray:
    """[tests] the median effect of 2 % more of one of the reference's own topics."""
    near = nearest_centre(rows, geometry.clusters)[0]
    found = []
    for cluster in np.unique(near):
        own = geometry.means(rows[near == cluster])
        mixed = Means(*((1 - _GATE) * a + _GATE * b for a, b in zip(means, own, strict=True)))
        found.append(statistics(mixed, means, geometry))
    gates = np.median(found, axis=0)
    gates[TESTS.index("far share")] = _GATE
    return gates
