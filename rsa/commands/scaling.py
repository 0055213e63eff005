"""`rsa scaling`: predict what a run asks of storage, network and memory."""

from pathlib import Path

import click

from rsa.commands.options import params_file

POSITIVE = click.FloatRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)


@click.command()
@params_file
@click.option("--method", help="A section of `methods`; without it, every method of the experiment.")
@click.option(
    "--candidates",
    type=click.IntRange(min=2),
    metavar="N",
    help="Train on the hardest of so many views (Hard View Selection), scored exactly.",
)
@click.option(
    "--gpus",
    type=COUNT,
    metavar="N",
    multiple=True,
    default=(8, 16, 32, 64),
    show_default=True,
    help="A column of the table; give it several times.",
)
@click.option("--gpus-per-node", type=COUNT, metavar="N", default=8, show_default=True, help="GPUs of a node.")
@click.option(
    "--tflops",
    type=POSITIVE,
    metavar="TFLOP/S",
    required=True,
    help="What one GPU reaches in training: images/s by `rsa doctor`, times the table's GFLOP per image, over 1000.",
)
@click.option(
    "--launch-ms",
    type=click.FloatRange(min=0),
    metavar="MS",
    default=0.0,
    help="Time in which the CPU launches a step's kernels: bounds the steps of small networks on a GPU.",
)
@click.option(
    "--exchange-us",
    type=click.FloatRange(min=0),
    metavar="US",
    default=0.0,
    help="Time of one exchange between ranks, for which batch norms wait.",
)
@click.option("--images", type=COUNT, metavar="N", required=True, help="Images of the training split.")
@click.option("--image-bytes", type=POSITIVE, metavar="BYTES", required=True, help="Mean size of an encoded image.")
@click.option(
    "--name-length",
    type=COUNT,
    metavar="BYTES",
    default=24,
    show_default=True,
    help="Length of the longest file name in a shard.",
)
def scaling(
    params_file: Path,
    method: str | None,
    candidates: int | None,
    gpus: tuple[int, ...],
    gpus_per_node: int,
    tflops: float,
    launch_ms: float,
    exchange_us: float,
    images: int,
    image_bytes: float,
    name_length: int,
) -> None:
    """Predict what a run asks of storage, network and memory.

    Prints a table in Markdown with a column for each number of GPUs. Operations, bytes kept for the backward pass, parameters and
    batch norms are counted on the networks of params.yaml, on the CPU. How fast a GPU is and how large the images are, you give.

    Example: rsa scaling --method rsa --tflops 100 --images 1281167 --image-bytes 110000
    """
    from rsa.params.load import load
    from rsa.params.section import nearest
    from rsa.scaling.counting import with_hard_views
    from rsa.scaling.prediction import Given, table

    p = load(params_file)
    if method and method not in p.methods:
        raise ValueError(f"--method must be a section of `methods`, got {method}{nearest(method, p.methods)}")
    if method in p.controls:
        raise ValueError(f"--method must be a method that is trained, got the control {method}")
    if images < p.pretrain.batch_size:
        raise ValueError(f"--images must be at least pretrain.batch_size ({p.pretrain.batch_size}), got {images}")
    names = [method] if method else p.trained
    for name in names if candidates else ():
        p = with_hard_views(p, name, candidates)
    given = Given(images, image_bytes, name_length, gpus_per_node, tflops, launch_ms / 1e3, exchange_us / 1e6)
    print("\n\n".join(table(p, name, given, gpus) for name in names))
