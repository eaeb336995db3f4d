"""Per-example gradient norms, in one forward and one backward pass.

    from thesis_tf import gradient_norms

    norms = gradient_norms.per_example_gradient_norms(model, loss)
    losses, squared_norms = norms(x, y)  # each (batch,)

This implements Proposition 3 of the thesis (section 7.2.2) for dense layers, extended to every
layer class that `registered_kinds` returns. `register` adds a rule for a custom layer; gradients of
a layer without a rule are computed by mapping the layer over the examples.
"""

from thesis_tf.gradient_norms.api import GradientNorms, per_example_gradient_norms
from thesis_tf.gradient_norms.forms import Form, Full, Outer, Rows, with_places
from thesis_tf.gradient_norms.registry import register, registered_kinds

__all__ = [
    "Form",
    "Full",
    "GradientNorms",
    "Outer",
    "Rows",
    "per_example_gradient_norms",
    "register",
    "registered_kinds",
    "with_places",
]
