import torch
from torchvision.transforms.v2 import functional as tv

from rsa.data.normalize import Normalize
from rsa.params.views import ChannelStatistics

STATISTICS = ChannelStatistics(mean=(0.44, 0.43, 0.39), std=(0.27, 0.26, 0.25))


def test_normalize_is_torchvisions_in_channels_last():
    images = torch.randint(0, 256, (3, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = Normalize(STATISTICS, torch.device("cpu"))(images)
    want = tv.normalize(images.permute(0, 3, 1, 2).float() / 255, list(STATISTICS.mean), list(STATISTICS.std))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.uint8
