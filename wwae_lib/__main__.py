"""The command line: ``python -m wwae_lib {train,evaluate,export,data} ...``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from . import data, experiments, runs

EXAMPLES = """\
examples:
  python -m wwae_lib data mnist                      fetch and check the images
  python -m wwae_lib train mnist --method wwae       train on all 60,000 (minutes on a GPU or a fast CPU)
  python -m wwae_lib train mnist --method wwae --embedded --epochs 2 --variant try
                                                     the same in seconds, on digits that need no download
  python -m wwae_lib evaluate mnist/wwae/seed-0      measure a recorded run, FID included

WWAE_DATA names the data folder, WWAE_RESULTS the results folder."""

FIELDS = {
    "seed": "decides initial weights, order of images and noise",
    "variant": "suffix of the run's folder, to keep it apart from the method's default run",
    "network": f"size of encoder and decoder: {', '.join(experiments.NETWORKS)}",
    "latent": "dimension of the codes",
    "initial_std": "standard deviation of the codes before training",
    "penalty_weight": "weight of the penalty on the squared error summed over pixels: lambda of the WWAE, "
    "twice the decoder's variance for the VAE",
    "estimator": f"of the aggregated posterior's moments, WWAE only: {', '.join(experiments.ESTIMATORS)}",
    "epochs": "passes over the training images",
    "batch_size": "images a step",
    "learning_rate": "Adam's rate at the start; it falls to 0 along a cosine",
}


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="python -m wwae_lib",
        description="Train and measure Wasserstein-Wasserstein auto-encoders and their competitors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train one experiment and record it as a run",
        description="Train one experiment and record it as a run: weights, history, pictures, cheap metrics. "
        "A checkpoint is written after every epoch; --resume goes on from the last. A finished run of the "
        "same name is replaced once the new one is complete; --variant keeps both.",
    )
    train.add_argument("dataset", choices=data.DATASETS, help="which images")
    train.add_argument("--method", choices=experiments.METHODS, default="wwae", help="default: %(default)s")
    for field in dataclasses.fields(experiments.Experiment):
        if field.name in FIELDS:
            train.add_argument(
                f"--{field.name.replace('_', '-')}",
                type={"int": int, "float": float, "str": str}[field.type],
                help=f"{FIELDS[field.name]} (default: the book's choice)",
            )
    train.add_argument(
        "--embedded", action="store_true", help="MNIST only: 5,000 digits that need no download"
    )
    train.add_argument("--accelerator", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    train.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32-true", "bf16-mixed"),
        help="auto: bfloat16 where the hardware computes in it (default: %(default)s)",
    )
    again = train.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint, if there is one"
    )
    again.add_argument(
        "--restart", action="store_true", help="throw away the checkpoint of an interrupted run"
    )
    train.add_argument("--results", type=Path, help="results folder (default: the book's)")
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a recorded run, FID included",
        description="Measure a recorded run from its stored weights: reconstruction, aggregated posterior, "
        "and FID of 10,000 prior samples against the test images. The metrics are added to the run's record.",
    )
    evaluate.add_argument(
        "path", metavar="RUN", help="a run's folder, or its name, such as mnist/wwae/seed-0"
    )
    evaluate.add_argument(
        "--accelerator", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)"
    )
    evaluate.set_defaults(run=run_evaluate)

    export = commands.add_parser(
        "export",
        help="write what the book's explorers show of the recorded runs",
        description="Write the decoders and codes of the recorded runs as scripts that the book's explorers "
        "read, and the explorers' still figures. The same runs give the same bytes.",
    )
    export.add_argument("--results", type=Path, help="results folder to read (default: the book's)")
    export.add_argument("--folder", type=Path, help="folder to write to (default: the book's)")
    export.set_defaults(run=run_export)

    fetch = commands.add_parser(
        "data",
        help="fetch, check and prepare data sets",
        description="Make data sets ready in the data folder: download what is missing where the network "
        "allows, check every file, and cut CelebA's faces into their cache.",
    )
    fetch.add_argument("datasets", nargs="*", metavar="DATASET", help=f"any of {', '.join(data.DATASETS)}")
    fetch.set_defaults(run=run_data)
    return whole


def run_train(arguments: argparse.Namespace) -> None:
    from . import training

    changes = {name: value for name in FIELDS if (value := getattr(arguments, name)) is not None}
    experiment = experiments.experiment(arguments.dataset, arguments.method, **changes)
    if arguments.embedded and arguments.dataset != "mnist":
        raise ValueError("--embedded digits exist for mnist alone")
    load = data.embedded_digits if arguments.embedded else lambda split: data.load(arguments.dataset, split)
    images, test_images = load("train"), load("test")
    print(f"{len(images):,} training images: {images.source}")
    run = training.train(
        experiment,
        images,
        test_images,
        results=arguments.results,
        resume=arguments.resume,
        restart=arguments.restart,
        fabric=training.choose_fabric(arguments.accelerator, arguments.precision),
    )
    show(run)


def run_evaluate(arguments: argparse.Namespace) -> None:
    from . import evaluation, training

    run = runs.load(arguments.path)
    test_images = data.load(run.experiment.dataset, "test")
    if (found := test_images.sha256()) != (recorded := run.record["data"]["test"]["sha256"]):
        raise runs.RunError(
            f"{run.path} was measured on test images with SHA-256 {recorded[:16]}..., "
            f"those at hand have {found[:16]}... ({test_images.source})"
        )
    device = training.choose_fabric(arguments.accelerator, "32-true").device
    show(evaluation.evaluate(run, test_images, device=device))


def run_export(arguments: argparse.Namespace) -> None:
    from . import export

    for path in export.export(arguments.folder, arguments.results):
        print(f"{path.stat().st_size:9,} bytes  {path.name}")


def run_data(arguments: argparse.Namespace) -> None:
    if unknown := set(arguments.datasets) - set(data.DATASETS):
        raise data.DataError(f"there is no data set {', '.join(unknown)}; known: {', '.join(data.DATASETS)}")
    print(f"data folder: {data.data_root()}")
    for dataset in arguments.datasets or data.DATASETS:
        for split in ("train", "test"):
            images = data.load(dataset, split, fall_back=False)
            print(f"{dataset} {split}: {len(images):,} images, checked ({images.source})")


def show(run: runs.Run) -> None:
    print(f"run: {run.path}")
    for name, value in sorted(run.metrics.items()):
        print(f"  {name:22} {value:.4g}")


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    try:
        arguments.run(arguments)
    except (data.DataError, runs.RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and train --resume goes on from it", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
