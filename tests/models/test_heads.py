import numpy as np
import torch

from rsa.models.heads import mlp


def test_head_is_linear_batch_norm_relu_linear():
    torch.manual_seed(0)
    head = mlp(3, 5, 2, hidden_bias=True, out_bias=True).train()
    x = torch.randn(8, 3)
    first, norm, _, last = head
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    hidden = x.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    hidden = np.maximum(hidden * norm.weight.detach().numpy() + norm.bias.detach().numpy(), 0)
    want = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(head(x).detach().numpy(), want, atol=1e-5)
