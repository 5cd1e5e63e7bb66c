"""How fast training and evaluation are, turn by turn, and beside PyTorch.

contenders.py  what is timed: this package's steps, and PyTorch's in a process of its own
torch_peer.py  the networks in PyTorch, their training and evaluation
measure.py     rounds of timed steps, rates and ratios; the input pipelines alone

Needs neither TensorFlow nor any other package that reads data, configurations or weights.
"""
