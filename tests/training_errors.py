"""Errors as `mlpwf train test` records them, made up for tests of what reads them."""

from mlpwf.campaign import records


def errors(force: float, inter: float) -> records.Errors:
    """Errors of some frames: of all forces and of net forces, in eV/Å."""
    return records.Errors(
        frames=9,
        atoms=54,
        energy_rmse_mev_atom=1.0,
        energy_bias_mev_atom=0.0,
        force_rmse_ev_angstrom=force,
        force_inter_rmse_ev_angstrom=inter,
        force_intra_rmse_ev_angstrom=0.5 * force,
        virial_rmse_ev_atom=0.01,
    )


def trained(test: float, new: tuple[float, float] | None = None) -> records.TrainErrors:
    """Of a cycle with this error on all test frames, and these errors on new labels by the first model, in eV/Å."""
    every = records.ErrorsByState(overall=errors(test, test), states={})
    fresh = None
    if new is not None:
        first = records.ErrorsByState(overall=errors(*new), states={})
        fresh = records.NewErrors(inputs={}, first=first, mean=first)
    tested = records.TestErrors(frame_force_mse_ev2_angstrom2=[test**2] * 9, models=[every], mean=every)
    train = records.ErrorsOfMean(mean=every)
    return records.TrainErrors(units={}, inputs={}, test=tested, train=train, new=fresh)
