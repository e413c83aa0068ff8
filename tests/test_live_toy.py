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


def train(page, **choices) -> dict:
    """Choose, train to the end by keyboard, and what the page says then."""
    for name, value in choices.items():
        page.locator(f"#toy-explorer [data-choice={name}]").select_option(value)
    button = page.locator("#toy-explorer [data-action=train]")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "wwaeExplorer.toy.now.steps >= wwaeExplorer.toy.STEPS && !wwaeExplorer.toy.running"
    )
    assert button.is_disabled()
    value = lambda name: float(page.locator(f"#toy-explorer [data-value={name}]").inner_text())  # noqa: E731
    state = page.evaluate("({noise: wwaeExplorer.toy.seen.noise, cov: wwaeExplorer.toy.seen.moment.cov})")
    assert value("total") == pytest.approx(value("mean") + value("bures"), abs=0.011)
    return state | {"penalty": value("total"), "error": page.evaluate("wwaeExplorer.toy.seen.error")}


def test_three_trainings_show_what_the_text_says(browser):
    with opened(browser, OBJECTIVE, mathematics=False) as page:
        whole = train(page, rebuild="1", batch="32", noise="0")
        assert whole["penalty"] <= 0.02 and whole["error"] < 0.1
        few = train(page, rebuild="", batch="8", noise="0")
        assert few["penalty"] > 0.02 and max(few["cov"][0], few["cov"][2]) < 0.9
        assert "decoder is not trained" in page.locator("#toy-explorer .ex-reading").first.inner_text()
        assert train(page, rebuild="", batch="32", noise="0")["penalty"] < 0.5 * few["penalty"]
        assert train(page, rebuild="", batch="8", noise="0") == few  # the seed is the same
        assert train(page, seed="2")["cov"] != few["cov"]
        asleep = train(page, rebuild="", batch="8", noise="1")
        assert asleep["penalty"] <= 0.01 and asleep["noise"] > 0.9


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
