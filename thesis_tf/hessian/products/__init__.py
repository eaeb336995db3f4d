"""How products with the Hessian and the Gauss-Newton matrix are computed."""
