"""MACE in its own Python: `worker.py train` trains a model in the working folder, `worker.py serve` evaluates models.

This file runs where mace-torch is installed, and imports nothing of mlpwf: both may need packages that the other's
environment does not have. What it is asked, and what it answers, is JSON and NumPy's npz.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

warnings.filterwarnings("ignore")  # of libraries: what they warn of is not the user's to mend
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn keeps its tables as pickles in its own package
ANSWERS = os.dup(1)
os.dup2(2, 1)  # what libraries print, on import too, is no answer

import torch  # noqa: E402
from e3nn import o3  # noqa: E402
from mace import data, modules, tools  # noqa: E402
from mace.tools import torch_geometric  # noqa: E402

JOB, DATA, MODEL, CHECKPOINT, CURVE, TRAINED = (
    "job.json", "frames.npz", "model.pt", "checkpoint.pt", "lcurve.out", "trained.json",
)  # fmt: skip
LENGTH_BYTES = 8
ATOMS_AT_ONCE = 512
"""Frames are evaluated together up to so many atoms: memory stays bounded."""
KEPT_MODELS = 32
AVERAGING = 0.99
"""Of the running mean of the weights, which is the model that is kept."""
LARGEST_GRADIENT = 10.0
BY_ATOM = {"numbers", "positions", "forces", "molecule", "arms"}
CURVE_POINTS, POINTS_PER_CHECKPOINT = 50, 3

TRAINING, SERVING = torch.float32, torch.float64
"""Precision: single halves the time of a step; a run needs forces that are the gradient of the energy to rounding."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def made(shape: dict[str, Any]) -> torch.nn.Module:
    """A model of this shape, its weights drawn."""
    hidden = o3.Irreps([(shape["channels"], (degree, (-1) ** degree)) for degree in range(shape["maximum_l"] + 1)])
    return modules.ScaleShiftMACE(
        r_max=shape["cutoff_angstrom"],
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=shape["maximum_edge_l"],
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=shape["layers"],
        num_elements=len(shape["numbers"]),
        hidden_irreps=hidden,
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array(shape["atomic_energies_ev"]),
        avg_num_neighbors=shape["neighbours"],
        atomic_numbers=shape["numbers"],
        correlation=shape["correlation"],
        radial_type="bessel",
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=shape["force_scale_ev_angstrom"],
        atomic_inter_shift=0.0,
    ).to(DEVICE)


def opened(path: Path) -> tuple[dict[str, Any], torch.nn.Module]:
    """The shape and the model of a file."""
    kept = torch.load(path, map_location=DEVICE, weights_only=True)
    model = made(kept["shape"])
    missing, unknown = model.load_state_dict(kept["weights"], strict=False)  # all else follows from the shape, exactly
    if unknown or {*missing} & {name for name, _ in model.named_parameters()}:
        raise ValueError("weights of another version of mace-torch")
    return kept["shape"], model


def saved(path: Path, content: dict[str, Any]) -> None:
    """Write a file as a whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(content, temporary)
    temporary.replace(path)


class Frames:
    """Frames of several sizes, their atoms one after another in each array."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = {name: arrays[name] for name in arrays}
        self.ends = np.cumsum(self.arrays["atoms"])

    def __len__(self) -> int:
        return len(self.ends)

    def of(self, index: int, name: str) -> Any:
        """An array of one frame: a row, or the rows of its atoms."""
        values, end = self.arrays[name], self.ends[index]
        return values[end - self.arrays["atoms"][index] : end] if name in BY_ATOM else values[index]

    def graph(self, index: int, shape: dict[str, Any]) -> Any:
        """The neighbours of a frame's atoms as MACE has them."""
        configuration = data.Configuration(
            atomic_numbers=self.of(index, "numbers"),
            positions=self.of(index, "positions"),
            properties={},
            property_weights={},
            cell=self.of(index, "cells"),
            pbc=(True, True, True),
        )
        table = tools.AtomicNumberTable(shape["numbers"])
        return data.AtomicData.from_config(configuration, z_table=table, cutoff=shape["cutoff_angstrom"])


def batch_of(graphs: list[Any]) -> dict[str, torch.Tensor]:
    """Several graphs as one."""
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs), shuffle=False)
    whole: dict[str, torch.Tensor] = next(iter(loader)).to(DEVICE).to_dict()
    return whole


# ---------------------------------------------------------------- train


def atomic_energies(frames: Frames, numbers: list[int], energies: Any) -> list[float]:
    """The energies of isolated atoms, in eV, whose sums are nearest to these of the frames, by least squares."""
    counts = np.array([[int(np.sum(frames.of(k, "numbers") == one)) for one in numbers] for k in range(len(frames))])
    return [float(one) for one in np.linalg.lstsq(counts.astype(float), energies, rcond=None)[0]]


class Loss:
    """Weighted mean squares of the errors of energy, forces, virial, and net forces and torques of molecules.

    Weights follow the learning rate, as DeePMD-kit's do: limit + (start − limit) rate / first rate.
    """

    def __init__(self, weights: dict[str, list[float]]) -> None:
        self.weights = weights

    def of(self, batch: dict[str, torch.Tensor], found: dict[str, torch.Tensor], label: dict[str, torch.Tensor],
           ratio: float) -> tuple[torch.Tensor, dict[str, float]]:  # fmt: skip
        """The loss, and the root mean square errors by name."""
        atoms = label["atoms"]
        wrong = found["forces"] - label["forces"]
        volume = torch.linalg.det(batch["cell"].view(-1, 3, 3)).abs()
        virial = -found["stress"] * volume[:, None, None] - label["virials"]
        parts = {
            "e": (((found["interaction_energy"] - label["energies"]) / atoms) ** 2 * atoms).mean(),
            "f": (wrong**2).mean(),
            "v": ((virial / atoms[:, None, None]) ** 2 * atoms[:, None, None]).mean(),
        }
        if self.weights["gf"][0]:
            zeros = wrong.new_zeros((int(label["molecule"].max()) + 1, 3))
            net = zeros.index_add(0, label["molecule"], wrong)
            torque = zeros.index_add(0, label["molecule"], torch.cross(label["arms"], wrong, dim=1))
            parts["gf"] = (net**2).mean() / 2 + (torque**2).mean() / 2
        total = sum(self._weight(name, ratio) * part for name, part in parts.items())
        mean_atoms = float(atoms.mean())
        per_atom = {"e": mean_atoms, "v": mean_atoms}
        return total, {name: math.sqrt(float(part.detach()) / per_atom.get(name, 1.0)) for name, part in parts.items()}

    def _weight(self, name: str, ratio: float) -> float:
        start, limit = self.weights[name]
        return limit + (start - limit) * ratio


def learning_rate(step: int, steps: int, first: float, last: float, schedule: str) -> float:
    """The rate of a step: level for half of the steps and half a cosine down, or falling exponentially."""
    if schedule == "exponential":
        return float(first * (last / first) ** (step / steps))
    late = max(0.0, 2 * step / steps - 1)
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * late))


def order(frames: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Batches of frames for ever: all once, in an order of their own, and again."""
    epoch = 0
    while True:
        drawn = np.random.default_rng([seed, epoch]).permutation(frames).tolist()
        yield from (drawn[start : start + batch] for start in range(0, frames, batch))
        epoch += 1


class Training:
    """A training in the working folder, from its last checkpoint where there is one."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        torch.manual_seed(job["seed"])
        with np.load(DATA, allow_pickle=False) as arrays:
            self.frames = Frames(arrays)
        if job["parent"]:
            self.shape, self.model = opened(Path(job["parent"]))
        else:
            self.shape = self._shape()
            self.model = made(self.shape)
        self.graphs = [self.frames.graph(index, self.shape) for index in range(len(self.frames))]
        if job["pretrained"]:
            self._settle()
        alone = dict(zip(self.shape["numbers"], self.shape["atomic_energies_ev"], strict=True))
        atoms = [sum(alone[one] for one in self.frames.of(k, "numbers").tolist()) for k in range(len(self.frames))]
        self.bound = self.frames.arrays["energies"] - np.array(atoms)
        self.mean = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=job["first_rate"], amsgrad=True)
        self.loss = Loss(job["weights"])
        self.step = self._resumed()

    def _settle(self) -> None:
        """Change the energies of isolated atoms, as little as may be, to those of the new labels."""
        frames, numbers, graphs = self.frames, self.shape["numbers"], self.graphs
        found = [
            self.model(batch_of(graphs[start : start + self.job["batch"]]), compute_force=False)["energy"].detach()
            for start in range(0, len(graphs), self.job["batch"])
        ]
        missing = frames.arrays["energies"] - torch.cat(found).cpu().numpy()
        change = atomic_energies(frames, numbers, missing)
        before = self.shape["atomic_energies_ev"]
        self.shape = {**self.shape, "atomic_energies_ev": [a + b for a, b in zip(before, change, strict=True)]}
        weights = self.model.state_dict()
        self.model = made(self.shape)
        self.model.load_state_dict({name: weights[name] for name, _ in self.model.named_parameters()}, strict=False)
        print(f"energies of isolated atoms of {numbers} changed by {[round(one, 3) for one in change]} eV", flush=True)

    def _shape(self) -> dict[str, Any]:
        numbers, cutoff = self.job["numbers"], self.job["shape"]["cutoff_angstrom"]
        forces = self.frames.arrays["forces"]
        shape = {
            **self.job["shape"],
            "numbers": numbers,
            "atomic_energies_ev": atomic_energies(self.frames, numbers, self.frames.arrays["energies"]),
            "force_scale_ev_angstrom": float(np.sqrt(np.mean(forces**2))),
        }
        graphs = [self.frames.graph(index, shape) for index in range(len(self.frames))]
        edges, atoms = sum(one.edge_index.shape[1] for one in graphs), int(self.frames.arrays["atoms"].sum())
        print(f"cut-off {cutoff:g} Å, {edges / atoms:.1f} neighbours an atom", flush=True)
        return {**shape, "neighbours": edges / atoms}

    def _resumed(self) -> int:
        if not Path(CHECKPOINT).is_file():
            Path(CURVE).write_text("#  step  rmse_e  rmse_f  rmse_v  rmse_gf  lr\n")
            return 0
        kept = torch.load(CHECKPOINT, map_location=DEVICE, weights_only=True)
        self.model.load_state_dict(kept["weights"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.mean = kept["mean"]
        return int(kept["step"])

    def label(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """What the model is to give for these frames."""
        frames, start, molecules = self.frames, 0, []
        for index in chosen:
            own = frames.of(index, "molecule")
            molecules.append(own + start)
            start += int(own.max()) + 1
        joined = {name: np.concatenate([frames.of(k, name) for k in chosen]) for name in ("forces", "arms")}
        rows = {"virials": np.array([frames.of(k, "virials") for k in chosen]), "energies": self.bound[chosen]}
        atoms = np.array([frames.arrays["atoms"][k] for k in chosen], float)
        every = {**joined, **rows, "atoms": atoms, "molecule": np.concatenate(molecules)}
        found = {name: torch.as_tensor(values, device=DEVICE) for name, values in every.items()}
        return {name: one.to(TRAINING) if one.is_floating_point() else one for name, one in found.items()}

    def run(self) -> None:
        """Train to the end, and leave the model."""
        job, steps = self.job, self.job["steps"]
        between = max(1, steps // CURVE_POINTS)
        batches = order(len(self.frames), job["batch"], job["seed"])
        for _ in range(self.step):
            next(batches)
        errors: list[dict[str, float]] = []
        while self.step < steps:
            rate = learning_rate(self.step, steps, job["first_rate"], job["last_rate"], job["schedule"])
            errors.append(self._move(next(batches), rate))
            self.step += 1
            if self.step % between == 0 or self.step == steps:
                self._tell(errors, rate)
                errors.clear()
            if self.step % (POINTS_PER_CHECKPOINT * between) == 0 and self.step < steps:
                self._keep()
        Path(TRAINED).write_text(json.dumps(self._trained()))
        saved(Path(MODEL), {"shape": self.shape, "weights": self.mean})

    def _trained(self) -> dict[str, Any]:
        """What the model's record is to say: versions, and the energies of isolated atoms by least squares."""
        alone = zip(self.shape["numbers"], self.shape["atomic_energies_ev"], strict=True)
        return {
            "mace_torch_version": version("mace-torch"),
            "torch_version": torch.__version__,
            "atomic_energies_ev": {str(number): energy for number, energy in alone},
        }

    def _move(self, chosen: list[int], rate: float) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        batch = batch_of([self.graphs[index] for index in chosen])
        found = self.model(batch, training=True, compute_stress=True)
        loss, errors = self.loss.of(batch, found, self.label(chosen), rate / self.job["first_rate"])
        if not math.isfinite(float(loss.detach())):
            raise SystemExit(f"step {self.step}: the loss is not finite; lower train.learning_rate or check the labels")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        share = min(AVERAGING, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                self.mean[name].mul_(share).add_(value, alpha=1 - share)
        return errors

    def _tell(self, errors: list[dict[str, float]], rate: float) -> None:
        squares = [[one.get(name, 0.0) ** 2 for one in errors] for name in ("e", "f", "v", "gf")]
        means = [math.sqrt(float(np.mean(one))) for one in squares]
        with Path(CURVE).open("a") as curve:
            curve.write(f"{self.step} {' '.join(f'{one:.6e}' for one in means)} {rate:.3e}\n")

    def _keep(self) -> None:
        saved(Path(CHECKPOINT), {
            "step": self.step, "weights": self.model.state_dict(), "mean": self.mean,
            "optimizer": self.optimizer.state_dict(),
        })  # fmt: skip


# ---------------------------------------------------------------- serve


class Models:
    """The models that were asked for, the last ones kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, Any], torch.nn.Module]] = {}

    def of(self, name: str) -> tuple[dict[str, Any], torch.nn.Module]:
        """Shape and model of a file."""
        if name not in self._kept:
            shape, model = opened(Path(name))
            for parameter in model.parameters():
                parameter.requires_grad = False
            self._kept[name] = (shape, model)
            while len(self._kept) > KEPT_MODELS:
                del self._kept[next(iter(self._kept))]
        return self._kept[name]


def answered(models: Models, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request: the elements of a model, the descriptors of frames, or what it predicts of them."""
    shape, model = models.of(str(request["model"]))
    if str(request["ask"]) == "numbers":
        return {"numbers": shape["numbers"]}
    frames = Frames({name: request[name] for name in ("atoms", "numbers", "positions", "cells")})
    described = str(request["ask"]) == "descriptors"
    found: list[dict[str, torch.Tensor]] = []
    for chosen in together(frames):
        batch = batch_of([frames.graph(index, shape) for index in chosen])
        result = model(batch, training=False, compute_force=not described, compute_stress=not described)
        if described:
            found.append({"descriptors": invariants(result["node_feats"], shape)})
        else:
            found.append({"energies": result["energy"], "forces": result["forces"], "stresses": result["stress"]})
    return {name: np.concatenate([one[name].detach().cpu().numpy() for one in found]) for name in found[0]}


def together(frames: Frames) -> Iterator[list[int]]:
    """Neighbouring frames, up to `ATOMS_AT_ONCE` atoms."""
    chosen: list[int] = []
    atoms = 0
    for index in range(len(frames)):
        count = int(frames.arrays["atoms"][index])
        if chosen and atoms + count > ATOMS_AT_ONCE:
            yield chosen
            chosen, atoms = [], 0
        chosen.append(index)
        atoms += count
    if chosen:
        yield chosen


def invariants(features: torch.Tensor, shape: dict[str, Any]) -> torch.Tensor:
    """Of an atom's features those that do not turn with it: the scalars of each layer; the last has no others."""
    width, channels = shape["channels"] * (shape["maximum_l"] + 1) ** 2, shape["channels"]
    layers = [features[:, layer * width :][:, :channels] for layer in range(shape["layers"])]
    return torch.cat(layers, dim=1)


def read_exactly(source: BinaryIO, count: int) -> bytes:
    """So many bytes; fewer at the end."""
    found = b""
    while len(found) < count and (more := source.read(count - len(found))):
        found += more
    return found


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until there are no more; each is a length of eight bytes and an npz."""
    models = Models()
    while len(length := read_exactly(source, LENGTH_BYTES)) == LENGTH_BYTES:
        content = read_exactly(source, int.from_bytes(length, "big"))
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as request:
                answer = answered(models, dict(request))
        except Exception as error:  # the one who asked is to know
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        text = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in answer.items()}
        np.savez(text, **arrays)
        sink.write(len(text.getvalue()).to_bytes(LENGTH_BYTES, "big") + text.getvalue())
        sink.flush()


def main() -> None:
    """Do what the words say."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_default_dtype(TRAINING if sys.argv[1:] == ["train"] else SERVING)
    if sys.argv[1:] == ["train"]:
        Training(json.loads(Path(JOB).read_text())).run()
        return
    serve(sys.stdin.buffer, os.fdopen(ANSWERS, "wb"))


if __name__ == "__main__":
    main()
