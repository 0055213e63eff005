"""What a run asks of storage, network and memory, on paper: `rsa scaling` prints it.

What is counted is counted on the networks of params.yaml, a few images through them on the CPU; the rest are formulae.
`python benchmarks/scaling.py` compares the predictions for the machine it runs on with measurements.
"""
