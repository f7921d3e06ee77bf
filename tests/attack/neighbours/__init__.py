"""What an attack costs everybody else: floods from one address or account, and a neighbour who goes on working.

`make attack` runs them by `tests/attack/check_neighbours.py`. `floods` lists the attacks, `sender` is the process that
sends one, `neighbour` measures the others.
"""
