"""python -m pipeline.export --encoder runs/METHOD/sSEED/encoder.safetensors --out FOLDER: the encoder for other programs.

FOLDER/timm.pth: a state dict for timm's model of that name with these arguments (`timm.create_model(..., num_classes=0)`);
FOLDER/torchvision.pth: the same weights under torchvision's names, for its plain ResNets; FOLDER/encoder.onnx: images
(B, 3, size, size), normalised, to representations (B, D), any B. Each is loaded back and compared before it stays.
"""

import argparse
import sys
from pathlib import Path

from rsa import params
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.models.export import export_onnx, export_timm, export_torchvision


def main() -> None:
    """Export one encoder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        p = params.load(arguments.params)
        backbone = load_encoder(build_backbone(p.model), arguments.encoder).eval()
        arguments.out.mkdir(parents=True, exist_ok=True)
        print(export_timm(backbone, p.model, arguments.out / "timm.pth"))
        print(export_torchvision(backbone, p.model, p.evaluation.crop, arguments.out / "torchvision.pth"))
        print(export_onnx(backbone, p.evaluation.crop, arguments.out / "encoder.onnx"))
    except (ValueError, OSError) as why:
        sys.exit(f"export: error: {why}")


if __name__ == "__main__":
    main()
