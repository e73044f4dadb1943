"""The report's part on the error of the labels themselves."""

from __future__ import annotations

from mlpwf.campaign import records
from mlpwf.report.gather import Record
from mlpwf.report.parts import Part, Table

HEADER = ("atoms", "edge, Å", "frames", "error of", "force, meV/Å", "net force, meV/Å", "energy, meV/atom",
          "virial, meV/atom", "pressure, kbar")  # fmt: skip
SHARE = 0.5
"""Of the target error: labels that are worse get a warning."""
MEANING = (
    "A few frames of each box size labelled once more: with k-points converged, and with cut-offs and SCF threshold "
    "converged; the total is the sum of both changes. Root mean squares; energies after the mean difference per atom "
    "is taken off; the pressure is the mean of label less converged label."
)


def label_error(record: Record) -> Part:
    """How far labels are from converged ones, by box size and lever."""
    found = record.label_error
    sizes = found.rows[:-1] if found else []
    rows = [
        (
            "all" if row.atoms is None else f"{row.atoms}",
            f"{row.edge_angstrom:.2f}",
            f"{row.frames}",
            lever,
            *_measures(errors),
        )
        for row in (found.rows if found and len(sizes) > 1 else sizes)
        for lever, errors in row.errors.items()
    ]
    return Part(
        "label-error",
        "Error of the labels",
        tables=[Table(MEANING, HEADER, rows)] if rows else [],
        notes=[f"A frame was left out: {failure}" for failure in (found.failures if found else [])],
        warnings=warnings(record),
    )


def _measures(errors: records.ErrorsOfLabels) -> tuple[str, ...]:
    """The last columns of `HEADER`."""
    energy = errors.energy_rmse_mev_atom
    return (
        f"{1e3 * errors.force_rmse_ev_angstrom:.3g}",
        f"{1e3 * errors.force_inter_rmse_ev_angstrom:.3g}",
        "–" if energy is None else f"{energy:.3g}",
        f"{1e3 * errors.virial_rmse_ev_atom:.3g}",
        f"{errors.pressure_bias_kbar:.3g}",
    )


def label_bar(record: Record) -> tuple[str, str]:
    """The error of a label's forces in eV/Å, and the small print below it."""
    total = _total(record)
    if total is None:
        return "–", "not measured"
    return f"{total.force_rmse_ev_angstrom:.3g}", "eV/Å, RMSE of forces against converged labels"


def warnings(record: Record) -> list[str]:
    """A sentence for each force whose labels err by more than half of the target error."""
    total = _total(record)
    if total is None:
        return []
    targets = record.sections.select.targets
    kinds = (
        ("forces", total.force_rmse_ev_angstrom, "intra"),
        ("net forces", total.force_inter_rmse_ev_angstrom, "inter"),
    )
    return [
        f"The labels' own {name} err by {1e3 * error:.0f} meV/Å, more than half of the target error of "
        f"{1e3 * targets[kind]:.0f} meV/Å: raise the cut-offs, lengthen label.image_distance_angstrom, or take larger "
        "boxes (`mlpwf label converge` finds the cheapest)."
        for name, error, kind in kinds
        if kind in targets and error > SHARE * targets[kind]
    ]


def _total(record: Record) -> records.ErrorsOfLabels | None:
    """Over all frames and levers; None where nothing was measured."""
    return record.label_error.total if record.label_error else None
