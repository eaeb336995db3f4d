"""Norms of the gradients of single examples, in one forward and one backward pass.

    from thesis_tf import gradient_norms

    norms = gradient_norms.per_example_gradient_norms(model, loss)
    losses, squared_norms = norms(x, y)  # each (batch,)

Proposition 3 of the thesis (section 7.2.2) for dense layers, and beyond it for every layer that
`registered_kinds` names; a layer of your own gets a rule by `register`, or is mapped over examples.
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
