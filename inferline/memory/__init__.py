"""Every store in memory: the tests and simulations use them in place of `inferline.aws`."""
