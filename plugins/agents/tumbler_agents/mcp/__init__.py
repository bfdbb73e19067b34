"""A client of the Model Context Protocol: the tools of other people's servers, as a scaffold's own."""
