"""Backpropagation by hand (slides "Backpropagation I" to "V"): no function here is differentiated by JAX.

    forward   a_i = Σ_j w_ij z_j,  z_i = h(a_i)
    output    δ_i = ∂E/∂a_i, from the likelihood (z_i − y_i for the canonical ones)
    hidden    δ_i = h'(a_i) Σ_k w_ki δ_k
    gradient  ∂E/∂w_ij = δ_i z_j

Everything is a plain JAX function of arrays, so it works under `jit`, `vmap` and `scan`, and can itself be
differentiated: a Hessian-vector product is the derivative of the gradient that stands here.
"""

from jnn.backprop.gradients import apply as apply
from jnn.backprop.gradients import deltas as deltas
from jnn.backprop.gradients import differentiable as differentiable
from jnn.backprop.gradients import per_example_gradient_norms as per_example_gradient_norms
from jnn.backprop.gradients import per_example_gradients as per_example_gradients
from jnn.backprop.gradients import value_and_grad as value_and_grad
