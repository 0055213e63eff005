"""Stage `finetune`: the whole network fine-tuned on a share of a dataset's labels.

out/: scores.json (rsa.evaluation.score), samples.txt (the keys of the labelled images, a line each)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.evaluation.finetune import finetune as fine_tuned
from rsa.evaluation.finetune import labelled
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.params import Params
from rsa.training.device import setup

READS = (
    "model",
    "evaluation",
    "finetune.epochs",
    "finetune.batch_size",
    "finetune.warmup_epochs",
    "finetune.optimizer",
    "finetune.layer_decay",
    "finetune.crop_scale",
    "finetune.label_smoothing",
    "finetune.precision",
)


def finetune(p: Params, encoder: Path, shards: Path, seed: int, percent: int, out: Path) -> None:
    """Fine-tune the encoder on `percent` of every class; `seed` draws them, the batches and the crops."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed)
    train = labelled(Split(shards, "train"), percent, seed)
    backbone = load_encoder(build_backbone(p.model), encoder)
    score = fine_tuned(backbone, p.finetune, p.evaluation, train, Split(shards, "test"), seed, device)
    write_json(out / "scores.json", {f"finetune_{percent}%": score})
    (out / "samples.txt").write_text("".join(f"{key}\n" for key in train.keys))


if __name__ == "__main__":
    run(finetune, READS)
