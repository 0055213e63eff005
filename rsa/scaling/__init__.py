"""Predicted storage, network and memory requirements of a run, printed by `rsa scaling`.

Operations, activations and parameters are counted by sending a few images through the networks of params.yaml on the CPU;
the rest follows by formulae.
`python benchmarks/scaling.py` compares the predictions for the machine it runs on with measurements.
"""
