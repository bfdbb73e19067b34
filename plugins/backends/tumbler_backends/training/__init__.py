"""Training backends: the engines that move the weights."""
