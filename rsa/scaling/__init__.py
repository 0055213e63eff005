"""Predicted storage, network and memory requirements of a run, printed by `rsa scaling`.

What is counted is counted on the networks of params.yaml, a few images through them on the CPU; the rest are formulae.
`python benchmarks/scaling.py` compares the predictions for the machine it runs on with measurements.
"""
