"""Has the GPUs' memory failed?

By uncorrected errors, rows to remap, rows that could not be, thresholds for a replacement. Corrected errors are told,
too; they need no action.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bot.gpu_readings import Gpu
from bot.ports import Sources
from bot.probes.gpus import Looked, any_true, look, missing, total
from bot.probes.gpus import Params as Params

READINGS = (
    "ecc.volatile.corrected",
    "ecc.volatile.uncorrected",
    "ecc.aggregate.corrected",
    "ecc.aggregate.uncorrected",
    "ecc.sram_threshold_exceeded",
    "ecc.unrepairable_memory",
    "rows.correctable",
    "rows.uncorrectable",
    "rows.pending",
    "rows.failed",
)
# The agent's own names for what it asks together.
_ASKED_TOGETHER = ("ecc.enabled", "ecc.sram", "rows")


@dataclass(frozen=True, slots=True)
class Reading:
    """Sums over the GPUs. Zero, and false, only if every GPU says so."""

    uncorrected: int | None = None  # volatile: since the driver was loaded, or the GPU was reset
    corrected: int | None = None
    uncorrected_life: int | None = None
    corrected_life: int | None = None
    remapped_rows_uncorrectable: int | None = None
    remapped_rows_correctable: int | None = None
    remap_pending: bool | None = None  # takes effect at the next reset
    remap_failed: bool | None = None
    sram_threshold_exceeded: bool | None = None
    unrepairable_memory: bool | None = None
    replacement_due: bool | None = None  # one of the last three: NVIDIA's criteria
    ecc_off: bool | None = None  # on any GPU: then its errors are not even seen
    where: tuple[str, ...] | None = None  # GPUs with an uncorrected error, or one of the conditions
    gpus: int | None = None
    source: str | None = None  # "agent", "dcgm-exporter", or both
    matched_by: str | None = None  # "uuid", "pod", or "node": then others' GPUs on these nodes count, too
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    looked = look(params, sources, READINGS)
    gpus = looked.gpus
    if not gpus:
        return Reading(missing=missing(looked, READINGS))
    failed = any_true(g.rows.failed for g in gpus)
    exceeded = any_true(g.ecc.sram_threshold_exceeded for g in gpus)
    beyond = any_true(g.ecc.unrepairable_memory for g in gpus)
    return Reading(
        uncorrected=total(g.ecc.volatile.uncorrected for g in gpus),
        corrected=total(g.ecc.volatile.corrected for g in gpus),
        uncorrected_life=total(g.ecc.aggregate.uncorrected for g in gpus),
        corrected_life=total(g.ecc.aggregate.corrected for g in gpus),
        remapped_rows_uncorrectable=total(g.rows.uncorrectable for g in gpus),
        remapped_rows_correctable=total(g.rows.correctable for g in gpus),
        remap_pending=any_true(g.rows.pending for g in gpus),
        remap_failed=failed,
        sram_threshold_exceeded=exceeded,
        unrepairable_memory=beyond,
        replacement_due=_due(failed, exceeded, beyond),
        ecc_off=any_true(None if g.ecc.enabled is None else not g.ecc.enabled for g in gpus),
        where=tuple(_troubled(looked)),
        gpus=len(gpus),
        source=looked.source,
        matched_by=looked.matched_by,
        missing=missing(looked, (*READINGS, *_ASKED_TOGETHER)),
    )


def _due(failed: bool | None, exceeded: bool | None, beyond: bool | None) -> bool | None:
    if True in (failed, exceeded, beyond):
        return True
    # Drivers before 2025 do not have the third flag; the other two cover what was known then.
    return False if failed is False and exceeded is False else None


def _troubled(looked: Looked) -> Iterator[str]:
    return (one.where for one in looked.told if _bad(one.gpu))


def _bad(gpu: Gpu) -> bool:
    conditions = (gpu.rows.pending, gpu.rows.failed, gpu.ecc.sram_threshold_exceeded, gpu.ecc.unrepairable_memory)
    return bool(gpu.ecc.volatile.uncorrected) or any(conditions)
