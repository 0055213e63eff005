"""The device of these tests."""

import torch

GPU = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # the CPU in a rehearsal: see conftest.py
CPU = torch.device("cpu")
