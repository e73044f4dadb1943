"""Frames labelled for a study: through the store, one after another or side by side."""

import os

import pytest
from ase.build import molecule

from mlpwf.config import Label, Site
from mlpwf.errors import DataError
from mlpwf.label import bench
from mlpwf.label.labeller import Labeller
from mlpwf.label.store import Store
from store_records import accepted, rejected

SETTINGS = Label(engine="gfn1")


def water(edge):
    return molecule("H2O", cell=[edge, 6.2, 6.4], pbc=True)


@pytest.fixture
def site(tmp_path):
    """A store that knows one label of water, and one that was rejected."""
    site = Site(label_store=str(tmp_path / "store"))
    labeller, store = Labeller(SETTINGS, site, tmp_path, ["H", "O"]), Store(site.label_store)
    store.put(labeller.key(water(6.0)), accepted(energy_ev=-7.0, cpu_s=3.5))
    store.put_rejected(labeller.key(water(5.0)), rejected(numerics=labeller.numerics), None)
    return site


def test_what_the_store_knows_is_not_missing(site, tmp_path):
    studied = bench.StoreBench(site, tmp_path, map)
    frames = [water(6.0), water(5.0), water(7.0)]
    assert studied.missing(SETTINGS, frames) == frames[2:]


def test_each_frame_comes_back_with_its_label_and_its_cost(site, tmp_path):
    ((frame, cost),) = bench.StoreBench(site, tmp_path, map).label(SETTINGS, [water(6.0)])
    assert (frame.get_potential_energy(), cost) == (-7.0, 3.5)


def test_a_rejected_frame_is_an_error(site, tmp_path):
    with pytest.raises(DataError, match=r"H2O was rejected: clash \(too close\)"):
        bench.StoreBench(site, tmp_path, map).label(SETTINGS, [water(5.0)])


def process(atoms):
    return atoms, float(os.getpid())


@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_keep_the_order_of_the_frames(jobs):
    frames = [water(edge) for edge in (6.0, 7.0, 8.0)]
    with bench.workers(jobs) as at_once:
        found = list(at_once(process, frames))
    assert [frame.cell[0, 0] for frame, _ in found] == [6.0, 7.0, 8.0]
    assert {pid == os.getpid() for _, pid in found} == {jobs == 1}
