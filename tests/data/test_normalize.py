import torch
from torchvision.transforms.v2 import functional as tv

from rsa.data.normalize import MEAN, STD, as_input


def test_as_input_is_torchvisions_normalize_in_channels_last():
    images = torch.randint(0, 256, (3, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = as_input(images, torch.device("cpu"))
    want = tv.normalize(images.permute(0, 3, 1, 2).float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.uint8
