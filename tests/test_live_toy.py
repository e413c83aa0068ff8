"""The WWAE that trains in the page of the objective has torch's gradients, and shows what the text says.

Needs `make book` and a Chromium on PATH; without either these tests are skipped.
"""

from __future__ import annotations

import pytest
import torch
from browsing import PHONE, SITE, opened, scrolls_sideways
from torch.nn.functional import linear, silu

from wwae_lib.book import explorers, toy
from wwae_lib.gaussian import w2_penalty

OBJECTIVE = SITE / "book" / "objective.html"
GRADIENT = """([settings, points, noise]) => {
    const toy = wwaeExplorer.toy;
    const {model} = toy.training({...settings, batch: 4, seed: 3});
    const found = toy.lossOf(model, Float64Array.from(points), Float64Array.from(noise),
        {rebuild: settings.rebuild, spread: settings.noise > 0, weight: settings.weight});
    const told = (layers) => layers?.map(({weight, bias}) => [Array.from(weight), Array.from(bias)]);
    return {
        encoder: told(model.encoder), decoder: told(model.decoder),
        error: found.error, penalty: found.penalty,
        slopes: [told(found.encoder), told(found.decoder)],
    };
}"""


def network(told: list) -> list[tuple[torch.Tensor, torch.Tensor]]:
    layers = [[torch.tensor(part, dtype=torch.float64) for part in layer] for layer in told]
    return [(weight.view(len(bias), -1).requires_grad_(), bias.requires_grad_()) for weight, bias in layers]


def applied(layers, x):
    for weight, bias in layers[:-1]:
        x = silu(linear(x, weight, bias))
    return linear(x, *layers[-1])


@pytest.mark.parametrize("rebuild", [True, False])
@pytest.mark.parametrize("noise", [0, 0.7])
def test_the_pages_gradient_is_torchs(browser, rebuild, noise):
    generator = torch.Generator().manual_seed(0)
    points, drawn = (torch.randn(7, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    settings = {"rebuild": rebuild, "noise": noise, "weight": 1.3}
    asked = [settings, points.flatten().tolist(), drawn.flatten().tolist()]
    with opened(browser, OBJECTIVE, mathematics=False) as page:
        said = page.evaluate(GRADIENT, asked)
    encoder, decoder = network(said["encoder"]), network(said["decoder"])
    mean, log_variance = applied(encoder, points).chunk(2, dim=1)
    variance = log_variance.exp() if noise else torch.zeros_like(mean)
    penalty = w2_penalty(mean, variance.mean(0))
    loss = settings["weight"] * penalty
    if rebuild:
        codes = mean + variance.sqrt() * drawn
        error = (points - applied(decoder, codes)).square().sum(1).mean()
        assert said["error"] == pytest.approx(error.item(), rel=1e-12)
        loss = loss + error
    loss.backward()
    assert said["penalty"] == pytest.approx(penalty.item(), rel=1e-9)
    for layers, slopes in zip((encoder, decoder) if rebuild else (encoder,), said["slopes"], strict=False):
        for (weight, bias), own in zip(layers, slopes, strict=True):
            for part, slope in zip((weight, bias), own, strict=True):
                found = torch.tensor(slope, dtype=torch.float64).view_as(part)
                torch.testing.assert_close(found, part.grad, rtol=1e-7, atol=1e-10)


TRAINED = """(settings) => {
    const training = wwaeExplorer.toy.training(settings);
    while (training.steps < wwaeExplorer.toy.STEPS) training.step();
    const {penalty, error, noise, moment} = training.look();
    return {penalty: penalty.total, error, noise, cov: moment.cov};
}"""


def test_three_trainings_show_what_the_text_says(browser):
    with opened(browser, OBJECTIVE, mathematics=False) as page:
        found = {
            (rebuild, batch, noise): page.evaluate(
                TRAINED, {"rebuild": rebuild, "batch": batch, "noise": noise, "seed": 1}
            )
            for rebuild, batch, noise in [(True, 32, 0), (False, 8, 0), (False, 128, 0), (False, 8, 1)]
        }
    whole, few, many, asleep = found.values()
    assert whole["penalty"] < 0.02 and whole["error"] < 0.1
    assert few["penalty"] > 0.02 and max(few["cov"][0], few["cov"][2]) < 0.9
    assert many["penalty"] < 0.1 * few["penalty"]
    assert asleep["penalty"] < 0.01 and asleep["noise"] > 0.9


def test_a_keyboard_trains_it_and_the_seed_repeats(browser):
    with opened(browser, OBJECTIVE, mathematics=False) as page:
        for name, value in {"rebuild": "", "batch": "4", "seed": "2"}.items():
            page.locator(f"#toy-explorer [data-choice={name}]").select_option(value)
        button = page.locator("#toy-explorer [data-action=train]")
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "wwaeExplorer.toy.now.steps >= wwaeExplorer.toy.STEPS && !wwaeExplorer.toy.running"
        )
        assert button.is_disabled()
        parts = {
            name: float(page.locator(f"#toy-explorer [data-value={name}]").inner_text())
            for name in ("total", "mean", "bures")
        }
        assert parts["total"] == pytest.approx(parts["mean"] + parts["bures"], abs=0.0011)
        assert "decoder is not trained" in page.locator("#toy-explorer .ex-reading").first.inner_text()
        status = page.locator("#toy-explorer [role=status]")
        assert f"the penalty is {parts['total']:.3f}" in status.inner_text()
        again = page.evaluate(TRAINED, {"rebuild": False, "batch": 4, "noise": 0, "seed": 2})
        assert again["penalty"] == page.evaluate("wwaeExplorer.toy.seen.penalty.total")


def test_a_finger_trains_it_on_a_phone(browser):
    with opened(browser, OBJECTIVE, mathematics=False, **PHONE) as page:
        assert not scrolls_sideways(page)
        page.locator("#toy-explorer [data-action=step]").tap()
        assert "After 1 of 800 steps" in page.locator("#toy-explorer .ex-toy-run").inner_text()
        page.locator("#toy-explorer [data-action=train]").tap()
        page.wait_for_function("wwaeExplorer.toy.now.steps > 20")
        page.locator("#toy-explorer [data-action=train]").tap()
        stopped = page.evaluate("wwaeExplorer.toy.now.steps")
        page.wait_for_timeout(200)
        assert page.evaluate("wwaeExplorer.toy.now.steps") == stopped
        page.locator("#toy-explorer [data-action=restart]").tap()
        assert "After 0 of 800 steps" in page.locator("#toy-explorer .ex-toy-run").inner_text()


def test_the_curve_is_the_librarys():
    still = explorers.toy_still()
    middle = explorers.SIZE / 2
    assert f"L{middle:.0f} {middle:.0f}L" in still  # its middle is the origin
    assert "<noscript>" in still and toy.curve(torch.tensor([0.5])).abs().max() == 0
