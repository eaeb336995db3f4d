"""Fits the auto-encoder of a run, or reads the result of an earlier call."""

from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from bin.common import training
from thesis_tf import autoencoders, mcmc
from thesis_tf.persistence import files

if TYPE_CHECKING:
    import tensorflow as tf

    from bin.jobs.dae.output import RunOutput
    from bin.jobs.dae.problem import Problem

_SEGMENT = 50  # the number of iterations of a full-batch method between checkpoints


def fit(
    problem: "Problem", model: keras.Model, output: "RunOutput", strategy: "tf.distribute.Strategy"
) -> None:
    """Initializes and trains the model, and writes model.keras."""
    if problem.config.reconstruction:
        return
    if problem.config.initialization == "data":
        _initialize(problem, model, output)
    if problem.method != "none":
        output.say(
            f"Fitting {model.count_params():,} parameters ({problem.method}), or reading what an"
            " earlier call has fitted ..."
        )
    if problem.method == "minibatch":
        _fit_minibatches(problem, model, output, strategy)
    elif problem.method != "none":
        _fit_full_batch(problem, model, output, problem.method)
    if output.chief:
        with files.atomic(output.folder / "model.keras") as partial:
            model.save(partial)


def _initialize(problem: "Problem", model: keras.Model, output: "RunOutput") -> None:
    path = output.folder / "initial.npz"
    if output.restore_variables(path, model):
        return
    output.say("Centering hidden units on the data ...")
    chosen = autoencoders.initialize_from_data(
        model.get_layer("encoder"),
        model.get_layer("decoder"),
        problem.splits.train.x,
        problem.initial_noise(),
        seed=problem.config.hardware.seed,
    )
    output.save_variables(path, model)
    output.write_json("initial.json", chosen.summary())


def _fit_full_batch(
    problem: "Problem", model: keras.Model, output: "RunOutput", method: Literal["lbfgs", "bfgs"]
) -> None:
    config = problem.config
    # Copies get different noise, since the noise depends on the index of an example.
    x = np.concatenate([problem.splits.train.x] * config.copies)
    losses: list[float] = []
    message = ""
    bar = keras.utils.Progbar(
        config.iterations,
        verbose=output.verbose,
        stateful_metrics=["loss/sigma^2"],
        unit_name="iteration",
    )

    def after(iteration: int, loss: float) -> None:
        bar.update(len(losses) + iteration, [("loss/sigma^2", loss / problem.sigma**2)])

    for done in range(0, config.iterations, _SEGMENT):
        end = min(done + _SEGMENT, config.iterations)
        path = output.folder / "fit" / f"after_{end:05d}.npz"
        record = path.with_suffix(".json")
        if record.exists() and output.restore_variables(path, model):
            found: dict[str, Any] = files.read_json(record)
        else:
            fitted = autoencoders.fit_full_batch(
                model,
                problem.criterion(),
                x,
                method=method,
                max_iterations=end - done,
                seed=mcmc.stream_seed(config.hardware.seed, 1),
                callback=after,
            )
            output.save_variables(path, model)
            found = {
                "iterations": fitted.iterations,
                "converged": fitted.converged,
                "message": fitted.message,
                "losses": list(fitted.losses),
            }
            files.write_json(record, found)
        losses += found["losses"]
        message = found["message"]
        if found["converged"]:
            break
    output.write_json("fit.json", {"message": message, "losses": losses})


def _fit_minibatches(
    problem: "Problem", model: keras.Model, output: "RunOutput", strategy: "tf.distribute.Strategy"
) -> None:
    config = problem.config
    seed = config.hardware.seed
    with strategy.scope():
        training_model = autoencoders.CriterionModel(model, problem.criterion(), seed=seed)
        rate = keras.optimizers.schedules.CosineDecay(
            config.training.learning_rate, max(1, problem.num_steps)
        )
        training_model.compile(training.optimizer_for(config.training, rate))
    training.train(
        training_model,
        problem.splits,
        config.training,
        output.folder,
        seed=seed,
        chief=output.chief,
        verbose=output.verbose,
    )
