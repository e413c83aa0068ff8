"""Record a training to look at: a WWAE of two-dimensional codes, at some forty moments of its first steps.

    python tools/film.py narrow    # the encoder starts with a standard deviation of 0.01, the book's default
    python tools/film.py wide      # ... of 1, that of the prior

Everything else is alike in the two. A moment holds the codes of the same test images, their mean and
covariance, the loss' two terms over those images, and the images decoded from the same draws. All goes to
``book/results/film/NAME.json``, from which ``python -m wwae_lib export`` makes what the page plays.
"""

from __future__ import annotations

import argparse
import base64
import io
import json

import numpy as np
import torch
from PIL import Image

from wwae_lib import data, runs, training
from wwae_lib.gaussian import total_moments, w2_penalty
from wwae_lib.networks import Decoder, Encoder, size_of

STARTS = {"narrow": 0.01, "wide": 1.0}
SEED, LATENT, WEIGHT, SIZE, STEPS, RATE = 0, 2, 10.0, 100, 1200, 1e-3
SHOWN, DRAWN = 1000, 16  # test images whose codes are recorded, draws from the prior
MOMENTS = sorted({round(x) for x in np.geomspace(1, STEPS + 1, 46)})  # 1 + steps done: densest at the start
SCALE = 28  # of codes in eight bits: steps of 1 / 28, up to 4.5


def record(name: str, images: data.Images, test: data.Images) -> dict:
    """Train, and look at the model at every moment."""
    training.reseed(SEED)
    size, shape = size_of("compact", (1, 28, 28)), (1, 28, 28)
    encoder, decoder = Encoder(shape, size, LATENT, STARTS[name]), Decoder(shape, size, LATENT)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE)
    seen = data.to_unit(test.pixels[:SHOWN])
    noise = torch.randn(SHOWN, LATENT, generator=torch.Generator().manual_seed(SEED))
    draws = torch.randn(DRAWN, LATENT, generator=torch.Generator().manual_seed(SEED + 1))
    order, frames, rows = torch.randperm(len(images)), [], []
    for step in range(STEPS + 1):
        if step + 1 in MOMENTS:
            frame, row = look(encoder, decoder, seen, noise, draws)
            frames.append({"step": step} | frame)
            rows.append(row)
        chosen = order[(torch.arange(SIZE) + step * SIZE) % len(order)]
        batch = data.to_unit(images.pixels[chosen])
        mean, log_variance = encoder(batch)
        codes = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (batch - decoder(codes)).square().flatten(1).sum(1).mean()
        adam.zero_grad()
        (error + WEIGHT * w2_penalty(mean, log_variance.exp().mean(0))).backward()
        adam.step()
    settings = {"initial_std": STARTS[name], "latent": LATENT, "penalty_weight": WEIGHT, "batch_size": SIZE}
    return {
        "name": name,
        "settings": settings | {"learning_rate": RATE, "seed": SEED, "network": "compact"},
        "data": {"source": images.source, "codes_of": SHOWN, "split": test.split},
        "scale": SCALE,
        "labels": "".join(map(str, test.labels[:SHOWN].tolist())),
        "frames": frames,
        "samples": sheet(rows),
    }


@torch.inference_mode()
def look(encoder, decoder, seen, noise, draws) -> tuple[dict, np.ndarray]:
    """One moment: what the codes are, what the loss is, and what the draws decode to."""
    mean, log_variance = encoder(seen)
    std = (0.5 * log_variance).exp()
    codes = mean + std * noise
    middle, covariance = total_moments(mean, std.square())
    error = (seen - decoder(codes)).square().flatten(1).sum(1).mean()
    eighths = (codes * SCALE).round().clamp(-127, 127).to(torch.int8).numpy()
    frame = {
        "error": round(error.item(), 2),
        "penalty": round(w2_penalty(mean, std.square().mean(0)).item(), 4),
        "noise": round(std.square().mean().item(), 4),
        "mean": [round(x, 3) for x in middle.tolist()],
        "covariance": [[round(x, 3) for x in row] for row in covariance.tolist()],
        "codes": base64.b64encode(eighths.tobytes()).decode(),
    }
    images = decoder(draws).mul(255).round().to(torch.uint8)[:, 0].numpy()
    return frame, np.concatenate(list(images), axis=1)


def sheet(rows: list[np.ndarray]) -> str:
    """The decoded draws, a moment a row, ink on paper, as a PNG in base64."""
    encoded = io.BytesIO()
    Image.fromarray(255 - np.concatenate(rows)).quantize(32, dither=Image.Dither.NONE).save(
        encoded, "PNG", optimize=True
    )
    return base64.b64encode(encoded.getvalue()).decode()


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=STARTS)
    name = parser.parse_args(words).name
    torch.set_num_threads(1)
    images, test = (data.load("mnist", split) for split in ("train", "test"))
    path = runs.results_root() / "film" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with runs.write_atomically(path) as part:
        part.write_text(
            json.dumps(record(name, images, test), separators=(",", ":")) + "\n", encoding="utf-8"
        )
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
