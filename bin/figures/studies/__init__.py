"""What several figures share: each a config and a function, computed once for all of them."""
