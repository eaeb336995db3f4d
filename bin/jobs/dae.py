"""One run of `bin.dae`: fits an auto-encoder, and reports what it says of the density."""

import pathlib

import keras
import numpy as np
import tqdm

import models
from bin.common import training
from thesis_tf import autoencoders, mcmc
from thesis_tf.persistence import checkpoint, files, fingerprint

_SIGMAS = {"spiral": 0.01, "spiral15": 0.01, "manifold10d": 0.1, "manifold10d_25": 0.1}
_SMALL = 64  # values an example, up to which full-batch methods are the default
_SEGMENT = 50  # iterations of a full-batch method, after which the weights are kept
_MOST_KERNELS = 20_000  # training examples that a kernel density is made of
_EXAMINED = 500  # test examples whose Jacobians are looked at
_MOST_ROWS = 20_000  # of those Jacobians together


class Job:
    """What `config` says, checked, and all that is made of it.

    Args:
        config: a `dae.Config`.
        splits: `Splits` of examples without labels.
        folder: where to write.
        strategy: a `tf.distribute.Strategy`.
        chief: whether this process writes files.
        progress: whether bars and lines are shown.
    """

    def __init__(self, config, splits, folder, strategy, *, chief=True, progress=False):
        self._config, self._splits, self._folder = config, splits, folder
        self._strategy, self._chief, self._progress = strategy, chief, progress
        train = splits.train.x
        size = int(np.prod(train.shape[1:]))
        spread = float(np.sqrt(train.var(axis=0).mean()))
        if not spread > 0:
            count = "There is one training example" if len(train) == 1 else "All are the same"
            raise ValueError(
                f"The training examples of {splits.name} must differ. {count}"
                f" ({len(splits.validation)} and {len(splits.test)} are held out)."
            )
        self.sigma = config.sigma or _SIGMAS.get(splits.name, spread / 2)
        self._far = config.far or float(np.ptp(train, axis=0).max()) / 2
        self._method = config.fit or ("lbfgs" if size <= _SMALL else "minibatch")
        self._seed = config.hardware.seed
        if config.noise != "plain" and config.criterion == "denoising" and self._far <= self.sigma:
            raise ValueError(
                f"The largest noise, {self._far:g} (--far, by default half the data's range), must"
                f" be above sigma, {self.sigma:g} (--sigma). Give another, or --noise=plain."
            )
        if self._method == "minibatch":
            self._steps = training.steps_an_epoch(splits, config.training) * config.training.epochs
        self._criterion = self._make_criterion()
        with strategy.scope():
            self.model = self._build(train.shape[1:])
        self._estimator = autoencoders.ScoreEstimator(self.model, self.sigma)
        self._estimator.score(train[:1])  # a model that doesn't fit is an error by now

    def _build(self, shape):
        config = self._config
        if config.reconstruction:
            if not pathlib.Path(config.reconstruction).is_file():
                raise ValueError(
                    f"--reconstruction must be an existing file. Received: {config.reconstruction}."
                )
            return _fitting(models.build(config.reconstruction, shape, None), shape)
        if config.tied:
            return models.tied_autoencoder(
                shape, config.units, activation="tanh", output="linear", name="dae"
            )
        return models.autoencoder(shape, config.units, name="dae")

    def _make_criterion(self):
        config = self._config
        if config.criterion == "rcae":
            return autoencoders.ReconstructionContractiveLoss(self.sigma, penalty="hutchinson")
        noise = self.sigma
        if config.noise == "sampled":
            noise = autoencoders.SampledNoise(self.sigma, self._far)
        elif config.noise == "decreasing":
            # The last third of training is at sigma itself.
            steps = max(1, 2 * self._steps // 3)
            noise = autoencoders.DecreasingNoise(self._far, self.sigma, steps)
        return autoencoders.DenoisingLoss(noise, walkback=config.walkback)

    def check_inputs(self):
        """Raises ValueError if what an earlier call has kept is of other data or another model."""
        arrays = [getattr(self._splits, name).x for name in ("train", "validation", "test")]
        own = {"data": fingerprint.of_arrays(arrays)}
        if self._config.reconstruction:
            own["reconstruction"] = fingerprint.of_model(self.model)
        path = self._folder / "inputs.json"
        there = files.read_json(path) if path.exists() else own
        differing = [name for name in own if there.get(name) != own[name]]
        if differing:
            raise ValueError(
                f"The {' and the '.join(differing)} changed since {self._folder} was begun. Choose"
                " another --output_dir, or delete that one."
            )
        self._write_json("inputs.json", own)

    def fit(self, verbose=0):
        """Trains the model, or reads what an earlier call of the same run has kept."""
        if self._config.reconstruction:
            return
        path = self._folder / "initial.npz"
        if self._config.initialisation == "data" and not self._restore(path):
            self._say("Centring hidden units on the data ...")
            chosen = autoencoders.initialise_from_data(
                self.model.get_layer("encoder"),
                self.model.get_layer("decoder"),
                self._splits.train.x,
                self._initial_noise(),
                seed=self._seed,
            )
            self._keep(path)
            self._write_json("initial.json", {"scale": chosen.scale, "losses": chosen.losses})
        self._say(f"Fitting {self.model.count_params():,} parameters: {self._method} ...")
        if self._method == "minibatch":
            self._fit_minibatches(verbose)
        elif self._method != "none":
            self._fit_full_batch()
        if self._chief:
            with files.atomic(self._folder / "model.keras") as partial:
                self.model.save(partial)

    def _initial_noise(self):
        """What the initial weights are to be good for: the sizes that the fit will see."""
        if self._config.criterion == "rcae" or self._config.noise == "plain":
            return self.sigma
        return autoencoders.SampledNoise(self.sigma, self._far)

    def _fit_full_batch(self):
        config = self._config
        # Every copy has noise of its own, since noise is drawn by the example's place.
        x = np.concatenate([self._splits.train.x] * config.copies)
        first = self._folder / "fit"
        losses, message = [], ""
        hidden = None if self._progress else True
        with tqdm.tqdm(total=config.iterations, unit="iteration", disable=hidden) as bar:

            def after(_, loss):
                bar.update()
                bar.set_postfix_str(f"loss/sigma^2 {loss / self.sigma**2:.4f}")

            for done in range(0, config.iterations, _SEGMENT):
                path = first / f"after_{min(done + _SEGMENT, config.iterations):05d}.npz"
                record = path.with_suffix(".json")
                if record.exists() and self._restore(path):
                    found = files.read_json(record)
                    bar.update(found["iterations"])
                else:
                    fit = autoencoders.fit_full_batch(
                        self.model,
                        self._criterion,
                        x,
                        method=self._method,
                        max_iterations=min(_SEGMENT, config.iterations - done),
                        seed=(self._seed, 1),
                        callback=after,
                    )
                    self._keep(path)
                    found = {
                        "iterations": fit.iterations,
                        "converged": fit.converged,
                        "message": fit.message,
                        "losses": [float(loss) for loss in fit.losses],
                    }
                    files.write_json(record, found)
                losses += found["losses"]
                message = found["message"]
                if found["converged"]:
                    break
        self._write_json("fit.json", {"message": message, "losses": losses})

    def _fit_minibatches(self, verbose):
        config = self._config
        with self._strategy.scope():
            trainer = autoencoders.Trainer(self.model, self._criterion, seed=self._seed)
            rate = keras.optimizers.schedules.CosineDecay(
                config.training.learning_rate, max(1, self._steps)
            )
            trainer.compile(training.optimizer_for(config.training, rate))
        training.train(
            trainer,
            self._splits,
            config.training,
            self._folder,
            seed=self._seed,
            chief=self._chief,
            verbose=verbose,
        )

    def report(self):
        """Writes pictures and numbers; returns the numbers, a dict."""
        x, sigma = self._splits.train.x, self.sigma
        found = {"data": self._splits.name, "sigma": sigma, **self._errors()}
        self._print(found)
        if not np.isfinite(found["loss_per_sigma2"]):
            raise ValueError(
                "r(x) is not finite at test examples: training has diverged, or the model puts out"
                " NaN. Take a lower --learning_rate."
            )
        if found["loss_per_sigma2"] > found["loss_per_sigma2_of_identity"]:
            self._say("r is worse than x itself: more --units, examples or training may help.")
        title = f"{self._splits.name}, sigma = {sigma:g}"
        size = found["values_an_example"]
        examined = self._splits.test.x[: max(20, min(_EXAMINED, _MOST_ROWS // size))]
        tangents = self._estimator.tangent_directions(examined)
        asymmetry = self._estimator.conservativity(examined).numpy()
        autoencoders.draw_spectrum(tangents, asymmetry, self._folder / "spectrum.png", title=title)
        found["asymmetry"] = float(np.median(asymmetry))
        found["tangent_dimension"] = float(np.median(tangents.dimension))
        attractors = None
        if self._config.far_starts:
            self._say("Following r from far starts ...")
            starts = autoencoders.far_starts(x, self._config.far_starts, self._seed)
            attractors = autoencoders.find_attractors(
                self._estimator, x, starts, max_iterations=2000 if size <= _SMALL else 200
            )
            found["attractors"] = attractors.summary()
            self._print(found["attractors"])
            path = self._folder / "attractors.png"
            autoencoders.draw_attractors(attractors, path, title=title)
        field = autoencoders.draw_score_field(
            self._estimator,
            x,
            self._folder / "score_field.png",
            attractors=attractors,
            title=title,
        )
        field["score"] = (field["reconstruction"] - field["points"]) / sigma**2
        self._write_npz("score_field.npz", field)
        noisy = self._noisy(self._splits.test.x)
        if _is_image(x):
            rows = {"clean": self._splits.test.x, "noisy": noisy}
            rows["r(noisy)"] = self._estimator.reconstruct(noisy[:12]).numpy()
            rows = {name: images[:12] for name, images in rows.items()}
            autoencoders.draw_images(rows, self._folder / "reconstructions.png", title=title)
        self._write_json("diagnostics.json", found)
        if self._config.chains:
            found["samples"] = self._sample(noisy, title)
            self._print(found["samples"])
        self._write_json("diagnostics.json", found)
        return found

    def _errors(self):
        """The loss on test examples, and the score's error against the best there is for them."""
        test, sigma = self._splits.test.x, self.sigma
        noisy = self._noisy(test)
        score = self._in_chunks(self._estimator.score, noisy)
        size = int(np.prod(test.shape[1:]))

        def loss(of_score):
            off = noisy + sigma**2 * of_score - test
            return float(np.square(off).sum() / len(test) / sigma**2)

        few = self._splits.train.x[:_MOST_KERNELS]
        kernels = autoencoders.KernelDensity(few, sigma)
        best = self._in_chunks(kernels.score, noisy)
        return {
            "loss_per_sigma2": loss(score),
            "loss_per_sigma2_of_identity": loss(np.zeros_like(score)),
            "loss_per_sigma2_of_kernel_density": loss(best),
            "score_error_to_kernel_density": autoencoders.relative_rmse(
                score, best, np.ones(len(test))
            ),
            "values_an_example": size,
        }

    def _sample(self, noisy, title):
        """Runs the chains; returns their diagnostics and the two-sample test, a dict."""
        config, x = self._config, self._splits.train.x
        rng = np.random.default_rng([self._seed, 3])
        if config.chains_from == "data":
            start = self._noisy(x[rng.integers(len(x), size=config.chains)], rng)
        else:
            start = autoencoders.far_starts(x, config.chains, self._seed + 1, margin=0.0)
        # 20 states of each chain are kept, or all if there are fewer.
        thin = max(1, config.chain_steps // 20)
        settings = {
            "num_steps_between_results": thin - 1,
            "seed": mcmc.stream_seed(self._seed, 4),
            "num_points": config.num_points,
            "verbose": "auto" if self._progress else 0,
            "folder": self._folder / "chains",
        }
        d = x[0].size
        step = config.step or (2.4 / d**0.5 if config.sampler[0] == "m" else 1.6 / d ** (1 / 6))
        step = step * self.sigma
        arguments = (self._estimator, start, config.chain_steps // thin)
        if config.sampler == "metropolis_hastings":
            chains = autoencoders.metropolis_hastings(*arguments, step, **settings)
        else:
            adjusted = config.sampler == "langevin"
            chains = autoencoders.langevin(*arguments, step**2, adjusted=adjusted, **settings)
        last = chains.samples[-1]
        self._write_npz("samples.npz", {"samples": last, "start": start})
        pictures = {"data": self._splits.test.x, "data with noise": noisy, "samples": last}
        path = self._folder / "samples.png"
        if _is_image(x):
            autoencoders.draw_images({k: v[:36] for k, v in pictures.items()}, path, title=title)
        else:
            autoencoders.draw_points(pictures, path, title=title)
        found = {"samples_a_chain": int(chains.samples.shape[0]), **chains.diagnostics.summary()}
        if min(len(last), len(noisy)) > 5:
            test = autoencoders.nearest_neighbour_test(last, noisy)
            found["two_sample_accuracy"] = test.accuracy
            found["two_sample_standard_error"] = test.standard_error
        return found

    def _noisy(self, x, rng=None):
        rng = rng or np.random.default_rng([self._seed, 2])
        return (x + self.sigma * rng.standard_normal(x.shape)).astype(x.dtype)

    def _in_chunks(self, function, x, rows=4096):
        parts = [x[i : i + rows] for i in range(0, len(x), rows)]
        return np.concatenate([np.asarray(function(part)) for part in parts])

    def _keep(self, path):
        if self._chief:
            checkpoint.save(path, self.model.variables)

    def _restore(self, path):
        if not path.exists():
            return False
        checkpoint.restore(path, self.model.variables)
        return True

    def _write_json(self, name, value):
        if self._chief:
            files.write_json(self._folder / name, value)

    def _write_npz(self, name, arrays):
        with files.atomic(self._folder / name) as partial:
            np.savez_compressed(partial, **arrays)

    def _say(self, line):
        if self._progress:
            print(line, flush=True)

    def _print(self, numbers):
        values = (
            f"{name} {value:.4g}"
            for name, value in numbers.items()
            if isinstance(value, int | float)
        )
        self._say(", ".join(values))


def _fitting(model, shape):
    """Returns the model as one of examples of this shape; raises ValueError if it is of others."""
    size = int(np.prod(shape))
    ends = [tuple(tensor.shape[1:]) for tensor in (*model.inputs, *model.outputs)]
    if len(ends) != 2 or any(None in end or int(np.prod(end)) != size for end in ends):
        raise ValueError(
            f"--reconstruction must map examples of shape {tuple(shape)} to the same shape, or"
            f" {size} values otherwise arranged. Received: a model with inputs of"
            f" {', '.join(map(str, ends[: len(model.inputs)]))} and outputs of"
            f" {', '.join(map(str, ends[len(model.inputs) :]))}."
        )
    if ends == [tuple(shape)] * 2:
        return model
    inputs = keras.Input(shape, dtype=model.inputs[0].dtype)
    outputs = model(keras.layers.Reshape(ends[0])(inputs))
    return keras.Model(inputs, keras.layers.Reshape(shape)(outputs))


def _is_image(x):
    return x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (1, 3))
