"""The jobs of `bin.gsn` with a trained network: chains, completions, likelihoods, export."""

import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from bin.common import runs
from bin.jobs import spread
from bin.jobs.gsn.judge import Judge
from thesis_tf import gsn, mcmc
from thesis_tf.persistence import files
from thesis_tf.plotting import style

if TYPE_CHECKING:
    from bin.gsn import Jobs
    from bin.jobs.gsn.training import NetworkRun

_SHEET = (10, 20)  # the numbers of chains and of steps in samples.png
_REFERENCE = 10_000  # the number of training examples for the reference log-likelihood
_SPREAD = 200  # the most states of each chain from which the spread is computed
_COMPLETED = 10  # the number of test examples that are completed
_RUNS = 3  # the number of completions of each


def doubts(found: Mapping[str, Any]) -> list[str]:
    """Returns sentences that say why not to trust the results {job: numbers}."""
    said = [s for numbers in found.values() if isinstance(numbers, dict)
            for s in numbers.get("warnings", [])]  # fmt: skip
    return list(dict.fromkeys(said))


class JobsAfterTraining:
    """The jobs after training.

    Args:
        run: a `training.NetworkRun`.
        jobs: `bin.gsn.Jobs`.
        verbose: 0 shows nothing, otherwise progress bars and lines are shown.

    Raises:
        ValueError: a job is impossible; raised before anything is trained or written.
    """

    def __init__(self, run: "NetworkRun", jobs: "Jobs", *, verbose: Literal[0, 1, 2] = 0) -> None:
        self._run, self._jobs = run, jobs
        self._verbose: Literal["auto", 0] = "auto" if verbose else 0
        self._folder, self._splits = run.folder, run.splits
        self._seed = run.config.hardware.seed
        if jobs.chains.chains > len(self._splits.train):
            raise ValueError(
                f"--chains must be at most {len(self._splits.train)}, the number of training"
                f" examples at which they begin. Received: {jobs.chains.chains}."
            )
        self._mask = self._known() if "inpaint" in jobs.do else None
        classifies = "evaluate" in jobs.do or self._mask is not None
        self._judge = Judge(run, verbose=2 if verbose else 0) if classifies else None
        if "train" not in jobs.do:
            run.load()

    def run(self) -> dict[str, Any]:
        """Does the jobs; returns {job: results}."""
        of_the_network = {"export": self._export, "inpaint": self._inpaint}
        of_chains = {"sample": self._sample, "evaluate": self._evaluate}
        found: dict[str, Any] = {}
        chains: mcmc.Chains | None = None
        for job in self._jobs.do:
            if job in of_chains:
                if chains is None:
                    chains = self._run_chains()
                found[job] = of_chains[job](chains)
            elif job in of_the_network:
                found[job] = of_the_network[job]()
        return found

    @property
    def _sampled(self) -> pathlib.Path:
        """The folder of chains with these settings."""
        jobs = self._jobs
        name = f"{jobs.chains.chains}_chains_{jobs.chains.chain_steps}_steps"
        if jobs.num_burnin_steps:
            name += f"_after_{jobs.num_burnin_steps}"
        if jobs.num_steps_between_results:
            name += f"_every_{jobs.num_steps_between_results + 1}"
        if self._seed:
            name += f"_seed_{self._seed}"
        if self._scaled:
            name += f"_{jobs.chain_alpha}"
        return self._folder / "sampled" / name

    @property
    def _scaled(self) -> bool:
        return self._run.model.log_alpha is not None

    def _run_chains(self) -> mcmc.Chains:
        """Runs the chains, or reads the chains of an earlier call; returns `mcmc.Chains`."""
        jobs = self._jobs
        rng = np.random.default_rng([self._seed, 1])
        rows = rng.choice(len(self._splits.train), jobs.chains.chains, replace=False)
        self._run.say(
            f"Running {jobs.chains.chains:,} chains of {jobs.chains.chain_steps:,} steps ..."
        )
        kernel = self._run.model.transition_kernel(alpha=jobs.chain_alpha)
        return mcmc.sample_chain(
            kernel,
            self._splits.train.x[rows],
            jobs.num_results,
            num_burnin_steps=jobs.num_burnin_steps,
            num_steps_between_results=jobs.num_steps_between_results,
            seed=mcmc.stream_seed(self._seed, 2),
            output_fn=kernel.distribution_parameters,
            verbose=self._verbose,
            folder=self._sampled / "chains",
        )

    def _means(self, parameters: np.ndarray) -> np.ndarray:
        """Returns E[x | h] of parameters (steps, chains, ...)."""
        mean = self._run.model.reconstruction.mean
        return np.stack([mean(step).numpy() for step in tf.constant(parameters)])

    def _sample(self, chains: mcmc.Chains) -> dict[str, Any]:
        found: dict[str, Any] = {**chains.diagnostics.summary(), **self._verdict(chains)}
        means = self._means(chains.samples[: _SHEET[1]])
        if self._run.is_image:
            stride = self._jobs.num_steps_between_results + 1
            every = "every step" if stride == 1 else f"every {stride} steps"
            title = f"{self._splits.name}: rows are chains, columns are states, {every}"
            shown = style.heading(title, found["warnings"])
            path = self._sampled / "samples.png"
            gsn.draw_chain_images(means, path, chains=_SHEET[0], columns=_SHEET[1], title=shown)
        files.write_json(self._sampled / "mixing.json", found)
        self._print("chains", found)
        return found

    def _verdict(self, chains: mcmc.Chains) -> dict[str, Any]:
        """Returns the spread of means, and sentences on why the chains can't be trusted."""
        steps = np.linspace(0, len(chains.samples) - 1, min(_SPREAD, len(chains.samples)))
        means = self._means(chains.samples[steps.astype(int)])
        found = spread.ratio(means.reshape(-1, *means.shape[2:]), self._splits.test.x)
        said = [*chains.warnings(), *spread.doubts(found)]
        return {"spread_of_samples": found, "warnings": said}

    def _evaluate(self, chains: mcmc.Chains) -> dict[str, Any]:
        splits = self._splits
        means = self._means(chains.samples)
        self._run.say("Estimating likelihoods ...")
        held_out = splits.test.x, splits.validation.x
        few = splits.train.x[:_REFERENCE]
        # The same number of samples as of training examples, evenly spaced over all chains, since
        # the Parzen estimate depends on this number.
        steps = max(1, len(few) // means.shape[1])
        evenly = means[np.linspace(0, len(means) - 1, min(steps, len(means))).astype(int)]
        estimates: dict[str, gsn.LikelihoodEstimate] = {
            "parzen": gsn.parzen_log_likelihood(evenly, *held_out, verbose=self._verbose),
            "parzen_of_training_examples": gsn.parzen_log_likelihood(
                few, *held_out, verbose=self._verbose
            ),
            "parzen_of_all_samples": gsn.parzen_log_likelihood(
                means, *held_out, verbose=self._verbose
            ),
        }
        estimates["conservative"] = gsn.conservative_log_likelihood(
            chains,
            splits.test.x,
            self._run.model.reconstruction,
            train=splits.train.x,
            verbose=self._verbose,
        )
        found: dict[str, Any] = {n: estimate.summary() for n, estimate in estimates.items()}
        found["mixing"] = chains.diagnostics.summary()
        found["warnings"] = [
            *self._verdict(chains)["warnings"],
            *(f"{name}: {s}" for name, e in estimates.items() for s in e.warnings()),
        ]
        if self._scaled:
            found["alphas"] = [float(alpha) for alpha in self._run.model.alphas]
        files.write_json(self._sampled / "evaluation.json", found)
        assert self._judge is not None
        judged = self._judge.judge(
            means, num_steps_between_results=self._jobs.num_steps_between_results
        )
        found |= judged | {"warnings": [*found["warnings"], *judged.get("warnings", [])]}
        files.write_json(self._sampled / "evaluation.json", found)
        for name, values in found.items():
            if isinstance(values, dict):
                self._print(name, values)
        return found

    def _known(self) -> np.ndarray | None:
        """Returns the mask of known values for in-painting, booleans of an example's shape.

        None means that --known wasn't given and examples aren't images, which have a left half.
        """
        known, shape = self._jobs.known, self._run.shape
        if known is None and not self._run.is_image:
            return None
        known, mask = known or "left", np.zeros(shape, bool)
        if known.endswith(".npz"):
            advice = "with an array named mask, as np.savez(path, mask=booleans) writes"
            found = runs.read_arrays("known", known, advice, needed="mask")["mask"].astype(bool)
            if found.shape not in (shape, shape[:2]) or found.all():
                received = "true everywhere" if found.all() else found.shape
                raise ValueError(
                    f"The mask in {known} must be of shape {shape}, false for unknown values."
                    f" Received: {received}."
                )
            return np.broadcast_to(
                found.reshape(*found.shape, *[1] * (len(shape) - found.ndim)), shape
            ).astype(bool)
        if known not in ("left", "right", "top", "bottom"):
            raise ValueError(
                f"--known must be left, right, top, bottom or an .npz file. Received: {known}."
            )
        if not self._run.is_image:
            raise ValueError(f"--known={known} is for images; pass an .npz file with a mask.")
        rows, columns = math.ceil(shape[0] / 2), math.ceil(shape[1] / 2)
        where: dict[str, Any] = {
            "left": np.s_[:, :columns], "right": np.s_[:, -columns:],
            "top": np.s_[:rows], "bottom": np.s_[-rows:],
        }  # fmt: skip
        mask[where[known]] = True
        return mask

    def _inpaint(self) -> dict[str, Any]:
        jobs, mask = self._jobs, self._mask
        if mask is None:
            self._run.say("Nothing is completed: --known has no default unless data are images.")
            return {}
        truth = self._splits.test.x[:_COMPLETED]
        rng = np.random.default_rng([self._seed, 3])
        self._run.say(f"Completing {len(truth)} test examples, {_RUNS} times each ...")
        kernel = self._run.model.transition_kernel(alpha=jobs.chain_alpha)
        clamp = mcmc.MaskClamp(mask, truth)
        drawn = []
        for run in range(_RUNS):
            # Unknown values begin as shuffled values of other examples.
            other = rng.permuted(
                self._splits.train.x[rng.integers(len(self._splits.train.x), size=len(truth))],
                axis=0,
            )
            chains = mcmc.sample_chain(
                kernel,
                np.where(mask, truth, other),
                1,
                num_steps_between_results=jobs.inpaint_steps - 1,
                seed=mcmc.stream_seed(self._seed, 100 + run),
                clamp=clamp,
                output_fn=lambda state: clamp(kernel.mean(state)),
                verbose=0,
            )
            drawn.append(chains.samples[-1])
        result = gsn.Inpainting(truth, mask, np.stack(drawn))
        found: dict[str, Any] = {"steps": jobs.inpaint_steps, **result.summary()}
        drawn_values = result.completions.reshape(-1, *truth.shape[1:])[:, ~mask]
        found["spread_of_completions"] = spread.ratio(drawn_values, self._splits.test.x[:, ~mask])
        found["warnings"] = spread.doubts(found["spread_of_completions"], "Completed values")
        assert self._judge is not None
        judged = self._judge.judge(result.completions.reshape(-1, *truth.shape[1:]))
        found |= judged | {"warnings": [*found["warnings"], *judged.get("warnings", [])]}
        name = f"{pathlib.Path(jobs.known or 'left').stem}_{jobs.inpaint_steps}_steps"
        if self._seed:
            name += f"_seed_{self._seed}"
        if self._scaled:
            name += f"_{jobs.chain_alpha}"
        folder = self._folder / "inpainted" / name
        result.save(folder / "completions.npz")
        if self._run.is_image:
            title = f"{self._splits.name}: completions after {jobs.inpaint_steps} steps"
            shown = style.heading(title, found["warnings"])
            path = folder / "completions.png"
            gsn.draw_inpainting(result, path, title=shown)
        files.write_json(folder / "inpainting.json", found)
        self._print("inpainting", found)
        return found

    def _export(self) -> dict[str, Any]:
        path = self._folder / "saved_model"
        gsn.export(self._run.model, path, alpha=self._jobs.chain_alpha)
        return {"path": str(path)}

    def _print(self, heading: str, numbers: Mapping[str, Any]) -> None:
        parts = (f"{k} {v:.4g}" for k, v in numbers.items() if isinstance(v, int | float))
        self._run.say(f"{heading}: {', '.join(parts)}")
