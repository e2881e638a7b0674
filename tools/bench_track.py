"""How fast and how right tracking and time of death are: ``python tools/bench_track.py [--json FILE] [--quick]``.

Cost: 2000 cells a frame on one core, linking and fate together, memory over 10 000 frames, beside trackpy where it is
installed. Truth: simulated cultures whose deaths are known, drawn, called by the bundled network, with drift, stage
moves and 5 % of the calls thrown away; the figures stand beside the bars that livescope set itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from livescope.analysis import FrameAnalyser  # noqa: E402
from livescope.assay.agreement import match  # noqa: E402
from livescope.calls import CellCalls, State  # noqa: E402
from livescope.detect.bundle import load_bundle  # noqa: E402
from livescope.frames import Frame  # noqa: E402
from livescope.settings import DetectorSettings, SimulationSettings  # noqa: E402
from livescope.simulate.culture import Culture  # noqa: E402
from livescope.simulate.optics import Optics  # noqa: E402
from livescope.simulate.truth import Truth, View, truth_of_view  # noqa: E402
from livescope.track.fate import FateFilter, Fates  # noqa: E402
from livescope.track.link import Linker  # noqa: E402
from livescope.track.testing import calls_at, frame_of  # noqa: E402

CELLS = 2000
SETTLE_FRAMES = 20
"""A track is judged once it was followed for so long, the bar's own number."""


@dataclass(slots=True)
class Row:
    """One comparison; `ratio` above 1 means that ours is the better."""

    case: str
    metric: str
    ours: float
    peer: str
    theirs: float
    ratio: float


def at_most(case: str, metric: str, ours: float, bar: float, peer: str = "bar") -> Row:
    """Return a row in which less is better."""
    return Row(case, metric, ours, peer, bar, bar / ours if ours > 0 else float("inf"))


def at_least(case: str, metric: str, ours: float, bar: float, peer: str = "bar") -> Row:
    """Return a row in which more is better."""
    return Row(case, metric, ours, peer, bar, ours / bar)


# ---------------------------------------------------------------- cost


def wandering(frames: int) -> Iterator[NDArray[np.float64]]:
    """Yield places of cells that wander about a grid, 5 % of them missed, in random order."""
    rng = np.random.default_rng(0)
    home = (
        np.stack(np.meshgrid(np.arange(40) * 40.0, np.arange(50) * 40.0, indexing="ij"), axis=-1).reshape(-1, 2) + 30.0
    )
    offset = rng.normal(0, 5.0, home.shape)
    for _ in range(frames):
        offset = 0.95 * offset + rng.normal(0, 1.5, home.shape)
        yield (home + offset)[rng.permutation(CELLS)[: int(0.95 * CELLS)]]


def measure_cost(frames: int) -> list[Row]:
    """Time linking and fate, and watch the memory."""
    pixels = np.random.default_rng(1).integers(0, 4096, (1700, 2060)).astype(np.uint16)
    linker, fate = Linker(), FateFilter()
    process, rng = psutil.Process(), np.random.default_rng(2)
    link_ms, fate_ms, memory_mb = [], [], []
    for index, places in enumerate(track(wandering(frames), "cost", frames)):
        calls = calls_at(places, radius_px=13.0, p_dead=rng.random(len(places)))
        frame = frame_of(index, pixels=pixels, bit_depth=12)
        start = time.process_time()  # of one core, whatever else the machine does
        calls = linker.update(calls, frame)
        middle = time.process_time()
        fate.update(calls, frame, linker.report.shift_yx_px)
        link_ms.append(1e3 * (middle - start))
        fate_ms.append(1e3 * (time.process_time() - middle))
        memory_mb.append(process.memory_info().rss / 2**20)
    settled = min(200, frames // 4)
    link, both = statistics.median(link_ms), statistics.median([a + b for a, b in zip(link_ms, fate_ms, strict=True)])
    case = f"{CELLS} cells, one core"
    rows = [
        at_least(case, "link + fate, frames/s", 1e3 / both, 30.0),
        at_most(f"{case}, {frames} frames", "memory growth, MB", max(memory_mb[settled:]) - memory_mb[settled], 20.0),
    ]
    theirs = trackpy_ms()
    if theirs is not None:
        rows.append(at_most(case, "link, ms a frame", link, theirs, "trackpy link_iter"))
    return rows


def trackpy_ms() -> float | None:
    """Median time of trackpy's online linking of the same places, milliseconds; None where it is not installed."""
    try:
        import trackpy  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    trackpy.quiet()
    times, start = [], time.process_time()
    for _ in trackpy.linking.link_iter(list(wandering(30)), 13.0, memory=15):
        times.append(1e3 * (time.process_time() - start))
        start = time.process_time()
    return statistics.median(times)


# ---------------------------------------------------------------- truth


@dataclass(slots=True)
class Followed:
    """What was said of one track, and of the true cell that it was on last."""

    cell: int
    first: int
    last: int = 0
    p_dead: float = 0.0
    death: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    declared: bool = False


@dataclass(slots=True)
class Score:
    """Figures of one or more runs."""

    links: int = 0
    switches: int = 0
    right_single: dict[int, list[bool]] = field(default_factory=lambda: {State.LIVE: [], State.DEAD: []})
    right_fused: dict[int, list[bool]] = field(default_factory=lambda: {State.LIVE: [], State.DEAD: []})
    errors: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    deaths: int = 0
    missed: int = 0
    living: int = 0
    spurious: int = 0


def thinned(calls: CellCalls, keep: NDArray[np.bool_]) -> CellCalls:
    """Return the calls of some rows."""
    values: dict[str, Any] = {f.name: getattr(calls, f.name) for f in fields(calls)}
    chosen: dict[str, Any] = {name: v[keep] for name, v in values.items() if isinstance(v, np.ndarray)}
    return replace(calls, **chosen)


def scene(seed: int, frames: int) -> Iterator[tuple[Frame, Truth, Culture]]:
    """Yield drawn frames of a culture under a drifting stage that jumps every 40 frames, two minutes apart."""
    simulation = SimulationSettings(
        seed=seed, minutes_per_frame=2.0, death_rate_per_h=0.1, division_rate_per_h=0.02, dead_fraction=0.1
    )
    culture, rng, origin = Culture(simulation), np.random.default_rng(seed), np.zeros(2)
    optics = Optics(simulation, culture)
    for index in range(frames):
        origin += rng.normal((0.3, 0.15), 0.3)
        if index % 40 == 39:
            origin += rng.uniform(-200, 200, 2)
        top, left = np.round(origin).astype(int).tolist()
        view = View(top, left, simulation.height, simulation.width)
        pixels = np.empty((simulation.height, simulation.width), np.uint16)
        optics.render(pixels, index, view, z_um=0.0, exposure_ms=20.0)
        truth = truth_of_view(culture, 2.0 * index, view, simulation.pixel_um).in_frame()
        yield frame_of(index, pixels=pixels, bit_depth=12, pixel_um=simulation.pixel_um), truth, culture


def follow(seed: int, frames: int, score: Score) -> None:
    """Call, link and judge one culture, and add what came of it to the score."""
    analyser = FrameAnalyser(load_bundle("simulated"), DetectorSettings(threads=1))
    linker, fate, rng = Linker(), FateFilter(), np.random.default_rng(1000 + seed)
    known: dict[int, Followed] = {}
    death_frame: dict[int, float] = {}
    for frame, truth, culture in track(scene(seed, frames), f"seed {seed}", frames):
        calls = analyser(frame).calls
        calls = linker.update(thinned(calls, rng.random(len(calls)) > 0.05), frame)
        fates = fate.update(calls, frame, linker.report.shift_yx_px)
        dead = np.isfinite(truth.death_minutes)
        death_frame.update(zip(truth.cell_id[dead].tolist(), (truth.death_minutes[dead] / 2.0).tolist(), strict=True))
        note_frame(score, known, calls, fates, truth, culture, frame.index)
    analyser.close()
    settle(score, known, death_frame)


def note_frame(
    score: Score, known: dict[int, Followed], calls: CellCalls, fates: Fates, truth: Truth, culture: Culture, index: int
) -> None:
    """Count links, switches and states of one frame."""
    died = set(fates.died)
    for call, true in match(calls, truth).tolist():
        number, cell, state = int(calls.track[call]), int(truth.cell_id[true]), int(truth.state[true])
        followed = known.setdefault(number, Followed(cell, index))
        if followed.first < index:
            score.links += 1
            # a daughter that goes on under her parent's number is no switch
            score.switches += followed.cell != cell and culture.parent_of(cell) != followed.cell
        followed.cell, followed.last, followed.p_dead = cell, index, float(fates.p_dead[call])
        followed.death = (fates.death_low_frame[call], fates.death_frame[call], fates.death_high_frame[call])
        followed.declared |= number in died
        if index - followed.first >= SETTLE_FRAMES - 1:
            score.right_single[state].append((calls.p_dead[call] >= 0.5) == (state == State.DEAD))
            score.right_fused[state].append(fates.state[call] == state)


def settle(score: Score, known: dict[int, Followed], death_frame: dict[int, float]) -> None:
    """Compare times of death; deaths within 3 frames of the first and 5 of the last sight of a cell are left out."""
    for followed in known.values():
        if followed.last - followed.first < SETTLE_FRAMES:
            continue
        true = death_frame.get(followed.cell, np.inf)
        low, middle, high = followed.death
        if followed.first + 3 < true <= followed.last - 5:
            score.deaths += 1
            if followed.p_dead < 0.5 or not np.isfinite(middle):
                score.missed += 1
            else:
                score.errors.append(abs(middle - true))
                score.inside.append(low <= true <= high)
        elif true > followed.last:
            score.living += 1
            score.spurious += followed.declared or followed.p_dead >= 0.5


def measure_truth(seeds: list[int], frames: int) -> list[Row]:
    """Score some cultures together."""
    score = Score()
    for seed in seeds:
        follow(seed, frames, score)
    single, fused = (
        1 - np.mean([np.mean(right[state]) for state in (State.LIVE, State.DEAD)])
        for right in (score.right_single, score.right_fused)
    )
    case = f"{len(seeds)} cultures, {frames} frames"
    coverage = float(np.mean(score.inside))
    return [
        at_most(case, f"switches / 1000 of {score.links} links", 1e3 * score.switches / score.links, 2.0),
        at_most(case, "balanced error after 20 frames", float(fused), float(single) / 2, "half of one frame's"),
        at_most(case, f"missed deaths of {score.deaths}", score.missed / score.deaths, 0.02),
        at_most(case, f"spurious deaths of {score.living} living", score.spurious / score.living, 0.02),
        at_most(case, "time of death, median error, frames", float(np.median(score.errors)), 2.0),
        Row(case, "90 % interval covers", coverage, "bar, 85-95 %", 0.9, 1.0 if 0.85 <= coverage <= 0.95 else 0.0),
    ]


def main() -> int:
    """Run the benchmark; the exit status is 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="one culture and few frames: a minute")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9], help="seeds of the cultures")
    chosen = parser.parse_args()
    rows = measure_cost(300 if chosen.quick else 10_000)
    rows += measure_truth(chosen.seeds[:1] if chosen.quick else chosen.seeds, 120 if chosen.quick else 300)
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio")
    for row in rows:
        table.add_row(row.case, row.metric, f"{row.ours:.4g}", row.peer, f"{row.theirs:.4g}", f"{row.ratio:.2f}")
    Console().print(table)
    if chosen.json:
        machine = f"{platform.platform()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        values: list[dict[str, Any]] = [{f.name: getattr(row, f.name) for f in fields(row)} for row in rows]
        chosen.json.write_text(json.dumps({"benchmark": "track", "machine": machine, "rows": values}, indent=1))
    return int(any(row.ratio < 1 for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
