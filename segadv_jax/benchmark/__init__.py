"""How fast training, evaluation and prediction are, beside PyTorch; and compiled for TPUs.

cases.py          what is timed: networks with their adversaries, kinds of work, images of noise
contenders.py     who is timed: this package's steps, and PyTorch's in a process of its own
torch_*.py        the networks in PyTorch; torch_peer.py: their training, evaluation, prediction
boundaries.py     BF, also with SciPy
measure.py        rounds of timed steps, rates and ratios; products of matrices and pipelines alone
ahead_of_time.py  training steps compiled for a slice of TPU chips
input_pipeline.py how fast a host decodes images and hands them to its devices
arguments.py      what their command lines take

All but input_pipeline.py need neither TensorFlow nor any other package that reads data,
configurations or weights.
"""
