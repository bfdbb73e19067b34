"""What the sandbox service and its client say to each other; knows neither of them."""
