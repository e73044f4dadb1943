"""The report's part on the error of the labels themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlpwf.report.gather import Record, number
from mlpwf.report.parts import Part, Table

HEADER = ("atoms", "edge, Å", "frames", "error of", "force, meV/Å", "net force, meV/Å", "energy, meV/atom",
          "virial, meV/atom", "pressure, kbar")  # fmt: skip
MEASURES = (
    ("force_rmse_ev_angstrom", 1e3),
    ("force_inter_rmse_ev_angstrom", 1e3),
    ("energy_rmse_mev_atom", 1.0),
    ("virial_rmse_ev_atom", 1e3),
    ("pressure_bias_kbar", 1.0),
)
SHARE = 0.5
"""Of the target error: labels worse than this are said in plain sight."""
MEANING = (
    "A few frames of each box size labelled once more: with k-points converged, and with cut-offs and SCF threshold "
    "converged; the total is the sum of both changes. Root mean squares; energies after the mean difference per atom "
    "is taken off; the pressure is the mean of label less converged label."
)


def label_error(record: Record) -> Part:
    """How far labels are from converged ones, by box size and lever."""
    document = record.label_error or {}
    *sizes, every = document.get("rows") or [None]
    shown = [*sizes, every] if len(sizes) > 1 else sizes
    rows = [
        (
            "all" if row["atoms"] is None else f"{row['atoms']}",
            f"{row['edge_angstrom']:.2f}",
            f"{row['frames']}",
            lever,
            *("–" if errors[key] is None else f"{errors[key] * factor:.3g}" for key, factor in MEASURES),
        )
        for row in shown
        for lever, errors in row["errors"].items()
    ]
    return Part(
        "label-error",
        "Error of the labels",
        tables=[Table(MEANING, HEADER, rows)] if rows else [],
        notes=[f"A frame was left out: {failure}" for failure in document.get("failures", [])],
        warnings=warnings(record),
    )


def label_bar(record: Record) -> tuple[str, str]:
    """The error of a label's forces in eV/Å, and the small print below it."""
    total = _total(record)
    if total is None:
        return "–", "not measured"
    return f"{total['force_rmse_ev_angstrom']:.3g}", "eV/Å, RMSE of forces against converged labels"


def warnings(record: Record) -> list[str]:
    """A sentence for each force whose labels err by more than half of the target error."""
    total = _total(record)
    targets = _targets(record)
    if total is None:
        return []
    kinds = (("forces", "force_rmse_ev_angstrom", "intra"), ("net forces", "force_inter_rmse_ev_angstrom", "inter"))
    return [
        f"The labels' own {name} err by {1e3 * total[key]:.0f} meV/Å, more than half of the target error of "
        f"{1e3 * targets[kind]:.0f} meV/Å: raise the cut-offs, lengthen label.image_distance_angstrom, or take larger "
        "boxes (`mlpwf label converge` finds the cheapest)."
        for name, key, kind in kinds
        if kind in targets and total[key] > SHARE * targets[kind]
    ]


def _total(record: Record) -> Mapping[str, float] | None:
    rows: Sequence[Mapping[str, Any]] = (record.label_error or {}).get("rows", [])
    return rows[-1]["errors"]["total"] if rows else None


def _targets(record: Record) -> dict[str, float]:
    """Errors asked for in eV/Å, as the user wrote them."""
    section = record.sections.get("select", {})
    atom = number(section, "target_error_mev_angstrom")
    net = number(section, "target_inter_error_mev_angstrom")
    found = {"intra": atom, "inter": atom if net is None else net}
    return {kind: value / 1e3 for kind, value in found.items() if value is not None}
