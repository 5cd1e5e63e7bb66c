"""How fast training and evaluation are, turn by turn, and beside PyTorch.

contenders.py      what is timed: this package's steps, and the PyTorch program in its own process
torch_networks.py  the networks in PyTorch;  torch_peer.py  their training and evaluation
measure.py         rounds of timed steps, rates and ratios
pipelines.py       the input pipelines alone
table.py           the figures as text

Needs neither TensorFlow nor any other package that reads data, configurations or weights.
"""
