"""`rsa export`: write an encoder for timm, torchvision and ONNX."""

from pathlib import Path

import click

from rsa.commands.options import FILE, FOLDER, params_file


@click.command()
@params_file
@click.option(
    "--encoder",
    type=FILE,
    required=True,
    help="The encoder to export, as runs/METHOD/sSEED/encoder.safetensors.",
)
@click.option("--out", type=FOLDER, required=True, help="The folder to write; made if it is not there.")
def export(params_file: Path, encoder: Path, out: Path) -> None:
    """Write an encoder for timm, torchvision and ONNX.

    \b
    timm.pth         state dict for timm's model, loaded by the lines of timm_loader.py
    torchvision.pth  the same for torchvision's plain ResNets, loaded by those of torchvision_loader.py
    encoder.onnx     images (B, 3, size, size), normalised, to representations (B, D), for any B

    Each file is loaded back and compared with the encoder before it stays.

    Example: rsa export --encoder runs/rsa/s0/encoder.safetensors --out exported
    """
    from rsa.models.backbones import build_backbone
    from rsa.models.encoder import load_weights
    from rsa.models.export import export_onnx, export_timm, export_torchvision
    from rsa.params.load import load

    p = load(params_file)
    backbone = load_weights(build_backbone(p.model), encoder).eval()
    out.mkdir(parents=True, exist_ok=True)
    print(export_timm(backbone, p.model, out / "timm.pth"))
    print(export_torchvision(backbone, p.model, p.evaluation.crop, out / "torchvision.pth"))
    print(export_onnx(backbone, p.evaluation.crop, out / "encoder.onnx"))
