"""The competitors' losses, each against its formula in NumPy or another library, written out once more."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import ot
import pytest
import torch
from conftest import small
from torch import nn

from wwae_lib import experiments, methods, penalties, runs, training
from wwae_lib.data import DATASETS
from wwae_lib.methods import METHODS
from wwae_lib.networks import NETWORKS, Decoder, Discriminator, Encoder, LatentDiscriminator

SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def sample(n: int, d: int, seed: int = 0, scale: float = 1.5) -> torch.Tensor:
    return scale * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3


# ---------------------------------------------------------------- distances


@pytest.mark.parametrize("directions", [1, 50])
def test_sliced_distance_is_pythonots(directions):
    z, p = sample(40, 5), sample(40, 5, 1, 1.0)
    theta = nn.functional.normalize(sample(5, directions, 2), dim=0)
    distance = penalties.sliced_w2_squared(z, p, theta).item()
    expected = ot.sliced_wasserstein_distance(z.numpy(), p.numpy(), projections=theta.numpy()) ** 2
    assert distance == pytest.approx(expected, rel=1e-12)


def test_sliced_distance_worked_out_by_hand():
    """On a line: 1 and 4 against 0 and 2 pair by rank, (1 + 4) / 2."""
    z, p = torch.tensor([[4.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    assert penalties.sliced_w2_squared(z, p, torch.ones(1, 3)).item() == 2.5
    with pytest.raises(ValueError, match="sliced_w2_squared needs two"):
        penalties.sliced_w2_squared(z, p[:1], torch.ones(1, 3))


def cramer_wold_by_hand(z: np.ndarray) -> float:
    n, d = z.shape
    gamma = (4 / (3 * n)) ** 0.4
    total = 0.0
    for point in z:
        for other in z:
            total += (gamma + ((point - other) ** 2).sum() / (2 * d - 3)) ** -0.5 / n**2
        total -= 2 / n * (gamma + 0.5 + (point**2).sum() / (2 * d - 3)) ** -0.5
    return (total + (1 + gamma) ** -0.5) / (2 * math.sqrt(math.pi))


@pytest.mark.parametrize("d", [2, 8, 64])
def test_cramer_wold_distance_is_its_closed_form(d):
    z = sample(20, d)
    expected = cramer_wold_by_hand(z.numpy())
    assert penalties.cramer_wold_squared(z).item() == pytest.approx(expected, rel=1e-11)


def test_cramer_wold_distance_is_that_of_smoothed_projections():
    """Kummer's function, by mpmath, in place of its stand-in: at d = 400 they differ by 0.0004."""
    z = sample(6, 400, scale=3.0)
    n, d = z.shape
    gamma = (4 / (3 * n)) ** 0.4

    def kummer(s: float) -> float:
        return float(mpmath.hyp1f1(0.5, d / 2, -s))

    def density(square: float, variance: float) -> float:
        """Of N(0, variance) at the projection of a vector, averaged over directions."""
        return kummer(square / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    squares = (z[:, None] - z).square().sum(-1).flatten().tolist()
    expected = sum(density(square, 2 * gamma) for square in squares) / n**2 + density(0, 2 + 2 * gamma)
    expected -= 2 / n * sum(density(square, 1 + 2 * gamma) for square in z.square().sum(1).tolist())
    assert penalties.cramer_wold_squared(z).item() == pytest.approx(expected, rel=1e-3)


def test_cramer_wold_averages_over_directions():
    """What stands under the sum, for one pair of points: the mean over the circle, by quadrature."""
    x, variance = 1.7, 0.8
    mean = mpmath.quad(
        lambda t: mpmath.npdf(x * mpmath.cos(t), 0, mpmath.sqrt(variance)) / (2 * mpmath.pi),
        [0, mpmath.pi, 2 * mpmath.pi],
    )
    kummer = mpmath.hyp1f1(0.5, 1, -(x**2) / (2 * variance)) / mpmath.sqrt(2 * mpmath.pi * variance)
    assert float(mean) == pytest.approx(float(kummer), rel=1e-10)


@pytest.mark.parametrize("d", [2, 8])
def test_cramer_wold_gradient_and_sign(d):
    z = sample(7, d).requires_grad_()
    assert torch.autograd.gradcheck(penalties.cramer_wold_squared, z)
    near = sample(400, d, scale=1.0) - 0.3
    assert 0 < penalties.cramer_wold_squared(near) < penalties.cramer_wold_squared(near + 1)


def test_cramer_wold_needs_two_dimensions():
    with pytest.raises(ValueError, match="needs codes"):
        penalties.cramer_wold_squared(torch.zeros(4, 1))


def test_autocast_does_not_touch_the_distances():
    z, p = sample(40, 5).float(), sample(40, 5, 1).float()
    theta = nn.functional.normalize(sample(5, 9, 2).float(), dim=0)

    def all_three():
        sliced = penalties.sliced_w2_squared(z, p, theta)
        return sliced, penalties.mmd_squared(z, p), penalties.cramer_wold_squared(z)

    plain = all_three()
    with torch.autocast("cpu", torch.bfloat16):
        cast = all_three()
    assert [value.item() for value in plain] == [value.item() for value in cast]


# ---------------------------------------------------------------- losses of auto-encoders


class Given(nn.Module):
    """An encoder that answers what it was told to."""

    def __init__(self, mean: torch.Tensor, log_variance: torch.Tensor):
        super().__init__()
        self.mean, self.log_variance = nn.Parameter(mean), log_variance

    def forward(self, images):
        return self.mean, self.log_variance


class Linear(nn.Module):
    """A decoder whose logits are linear in the codes."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def logits(self, codes):
        return (codes @ self.weight).unflatten(1, (1, 2, 2))

    def forward(self, codes):
        return self.logits(codes).sigmoid()


class Scores(nn.Module):
    """A discriminator, x to a . sin(x)."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, given):
        return given.flatten(1).sin() @ self.weight


N, D = 9, 3


@pytest.fixture
def parts():
    """Images, a deterministic encoder's codes, a decoder."""
    images = torch.rand(N, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    mean = sample(N, D)
    return images, Given(mean, torch.full_like(mean, -torch.inf)), Linear(sample(D, 4, 3))


def seeded(method, images, player="model"):
    torch.manual_seed(5)
    return method.loss(images, player)


def error_by_hand(images, codes, decoder) -> float:
    logits = (codes @ decoder.weight).detach().numpy()
    return ((images.flatten(1).numpy() - 1 / (1 + np.exp(-logits))) ** 2).sum(1).mean()


def softplus(x) -> np.ndarray:
    return np.log1p(np.exp(np.asarray(x)))


def drawn(*shapes):
    """The normal numbers that a method draws in this order from the generator of :func:`seeded`."""
    torch.manual_seed(5)
    return [torch.randn(*shape, dtype=torch.float64) for shape in shapes]


def penalty_by_hand(name: str, codes: torch.Tensor) -> float:
    if name == "wae_mmd":
        prior = drawn((N, D), (N, D))[1].numpy()
        z, value = codes.numpy(), 0.0
        for i in range(N):
            for j in range(N):
                for c in (2 * D * s for s in SCALES):
                    if i != j:
                        within = c / (c + ((z[i] - z[j]) ** 2).sum()) + c / (
                            c + ((prior[i] - prior[j]) ** 2).sum()
                        )
                        value += within / (N * (N - 1))
                    value -= 2 * c / (c + ((z[i] - prior[j]) ** 2).sum()) / N**2
        return value
    if name == "swae":
        _, directions, prior = drawn((N, D), (50, D), (N, D))
        theta = (directions / directions.norm(dim=1, keepdim=True)).T.numpy()
        return ot.sliced_wasserstein_distance(codes.numpy(), prior.numpy(), projections=theta) ** 2
    return math.log(cramer_wold_by_hand(codes.numpy()) + 1e-7)


@pytest.mark.parametrize("name", ["wae_mmd", "swae", "cwae"])
def test_losses_with_a_penalty_on_the_codes(name, parts):
    images, encoder, decoder = parts
    method = METHODS[name](encoder, decoder, D, 2.5)
    loss = seeded(method, images)
    codes = encoder.mean.detach()  # a deterministic encoder's codes are its means
    reconstruction, penalty = error_by_hand(images, codes, decoder), penalty_by_hand(name, codes)
    assert loss.terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-12)
    assert loss.terms["penalty"].item() == pytest.approx(penalty, rel=1e-10)
    assert loss.total.item() == pytest.approx(reconstruction + 2.5 * penalty, rel=1e-11)


def test_ae_is_the_squared_error(parts):
    images, encoder, decoder = parts
    loss = methods.AE(encoder, decoder, D, 0.0).loss(images)
    assert loss.total.item() == pytest.approx(
        error_by_hand(images, encoder.mean.detach(), decoder), rel=1e-12
    )
    assert loss.terms.keys() == {"reconstruction"}


@pytest.mark.parametrize("name", ["vae_learned", "vae_bernoulli"])
def test_losses_of_the_vaes(name, parts):
    images, encoder, decoder = parts
    encoder.log_variance = sample(N, D, 9) - 2
    method = METHODS[name](encoder, decoder, D, 0.7).double()
    if name == "vae_learned":
        assert method.log_gamma.item() == pytest.approx(math.log(0.05))
        method.log_gamma.data.fill_(math.log(0.2))
    loss = seeded(method, images)
    (noise,) = drawn((N, D))
    mean, log_variance = encoder.mean.detach(), encoder.log_variance
    codes = mean + (log_variance / 2).exp() * noise
    kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1).mean().item()
    normal = torch.distributions.Normal
    if name == "vae_learned":
        decoded = normal(decoder(codes).flatten(1), math.sqrt(0.2))
        fit = -decoded.log_prob(images.flatten(1)).sum(1).mean().item()
        assert loss.terms["decoder_variance"].item() == pytest.approx(0.2)
    else:
        white = decoder(codes).detach().flatten(1).numpy()
        x = images.flatten(1).numpy()
        fit = -(x * np.log(white) + (1 - x) * np.log(1 - white)).sum(1).mean()
        assert loss.terms["cross_entropy"].item() == pytest.approx(fit, rel=1e-11)
    assert loss.terms["penalty"].item() == pytest.approx(kl, rel=1e-11)
    reconstruction = error_by_hand(images, codes, decoder)
    assert loss.terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-11)
    assert loss.total.item() == pytest.approx(fit + 0.7 * kl, rel=1e-6)  # float32 of log gamma's start


def test_the_best_variance_is_the_mean_squared_error_of_a_pixel(parts):
    images, encoder, decoder = parts
    method = methods.LearnedVAE(encoder, decoder, D).double()
    encoder.log_variance = torch.zeros(N, D, dtype=torch.float64)
    best = seeded(method, images).terms["reconstruction"].item() / 4
    method.log_gamma.data.fill_(math.log(best))
    seeded(method, images).total.backward()
    assert method.log_gamma.grad.abs().item() < 1e-12


def test_bernoulli_survives_a_certain_decoder(parts):
    images, encoder, decoder = parts
    encoder.log_variance = torch.zeros(N, D, dtype=torch.float64)
    decoder.weight.data.mul_(1e4)
    loss = seeded(methods.BernoulliVAE(encoder, decoder, D, 1.0), images)
    loss.total.backward()
    assert loss.total.isfinite() and decoder.weight.grad.isfinite().all()


# ---------------------------------------------------------------- two players


def test_wae_gan_is_its_two_losses(parts):
    images, encoder, decoder = parts
    judge = Scores(sample(D, 1, 4)[:, 0])
    method = methods.WAEGAN(encoder, decoder, D, 2.5, discriminator=judge)
    codes = encoder.mean.detach()
    of_codes = (codes.sin() @ judge.weight).detach()
    loss = seeded(method, images)
    fooled = softplus(-of_codes).mean()
    assert loss.terms["penalty"].item() == pytest.approx(fooled, rel=1e-12)
    assert loss.total.item() == pytest.approx(error_by_hand(images, codes, decoder) + 2.5 * fooled, rel=1e-12)
    loss.total.backward()
    assert judge.weight.grad is None and encoder.mean.grad.abs().min() > 0

    method.zero_grad()
    loss = seeded(method, images, "discriminator")
    of_prior = (drawn((N, D), (N, D))[1].sin() @ judge.weight).detach()
    assert loss.total.item() == pytest.approx(
        softplus(-of_prior).mean() + softplus(of_codes).mean(), rel=1e-12
    )
    loss.total.backward()
    assert encoder.mean.grad is None and judge.weight.grad.abs().min() > 0


@pytest.fixture
def gan_parts():
    images = torch.rand(N, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return images, Scores(sample(4, 1, 4)[:, 0]), Linear(sample(D, 4, 3))


def test_gan_is_its_two_losses(gan_parts):
    images, judge, generator = gan_parts
    method = methods.GAN(judge, generator, D)
    invented = generator(drawn((N, D))[0]).detach()
    of_images = judge(images).detach().numpy()
    of_invented = judge(invented).detach().numpy()
    loss = seeded(method, images, "generator")
    assert loss.total.item() == pytest.approx(softplus(-of_invented).mean(), rel=1e-12)
    loss.total.backward()
    assert judge.weight.grad is None and generator.weight.grad.abs().min() > 0
    method.zero_grad()
    loss = seeded(method, images, "discriminator")
    assert loss.terms["missed"].item() == pytest.approx(softplus(-of_images).mean(), rel=1e-12)
    assert loss.terms["fooled"].item() == pytest.approx(softplus(of_invented).mean(), rel=1e-12)
    loss.total.backward()
    assert generator.weight.grad is None and judge.weight.grad.abs().min() > 0


def test_wgan_gp_is_its_two_losses(gan_parts):
    images, critic, generator = gan_parts
    method = methods.WGANGP(critic, generator, D, 3.0)
    (codes,) = drawn((N, D))
    share = torch.rand(N, 1, dtype=torch.float64)  # drawn next
    invented = generator(codes).detach()
    x, g, a = images.flatten(1).numpy(), invented.flatten(1).numpy(), critic.weight.detach().numpy()
    between = x + share.numpy() * (g - x)
    norms = np.linalg.norm(a * np.cos(between), axis=1)  # the gradient of a . sin
    distance = (np.sin(x) @ a).mean() - (np.sin(g) @ a).mean()
    loss = seeded(method, images, "critic")
    assert loss.terms["distance"].item() == pytest.approx(distance, rel=1e-11)
    assert loss.terms["penalty"].item() == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-11)
    assert loss.total.item() == pytest.approx(3 * ((norms - 1) ** 2).mean() - distance, rel=1e-11)
    loss.total.backward()
    assert generator.weight.grad is None and critic.weight.grad.abs().min() > 0
    method.zero_grad()
    loss = seeded(method, images, "generator")
    assert loss.total.item() == pytest.approx(-(np.sin(g) @ a).mean(), rel=1e-11)
    loss.total.backward()
    assert critic.weight.grad is None


def test_the_critic_learns_from_its_gradient_penalty(gan_parts):
    images, critic, generator = gan_parts
    method = methods.WGANGP(critic, generator, D)
    invented = generator(drawn((N, D))[0]).detach()

    def penalty(weight):
        critic.weight = nn.Parameter(weight)
        del critic.weight
        critic.weight = weight
        torch.manual_seed(0)
        return method.gradient_penalty(images, invented)

    assert torch.autograd.gradcheck(penalty, sample(4, 1, 8)[:, 0].requires_grad_())


def test_whose_turn_it_is():
    wgan = experiments.build(small("wgan_gp"))
    assert [wgan.turns(step)[-1] for step in range(10)] == (["critic"] * 4 + ["generator"]) * 2
    assert all(wgan.turns(step)[0] == "critic" for step in range(10))
    assert experiments.build(small("gan")).turns(0) == ("discriminator", "generator")
    assert experiments.build(small("wae_gan")).turns(3) == ("discriminator", "model")
    assert experiments.build(small("wwae")).turns(3) == ("model",)


# ---------------------------------------------------------------- every method


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_weight_has_one_player_who_moves_it_alone(name, digits):
    torch.manual_seed(0)
    method = experiments.build(small(name))
    owned = [id(weight) for player in method.players for weight in method.weights(player)]
    assert sorted(owned) == sorted(id(weight) for weight in method.parameters())
    for player in method.players:
        method.zero_grad()
        loss = method(digits.pixels[:16] / 255, player)
        loss.total.backward()
        own = {id(weight) for weight in method.weights(player)}
        moved = {id(w) for w in method.parameters() if w.grad is not None and w.grad.abs().sum() > 0}
        assert moved <= own
        # A critic's loss is a difference of scores: the bias of its last layer cancels.
        assert len(own - moved) == (player == "critic")
        assert all(weight.requires_grad for weight in method.parameters())


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("network", ["compact", "reference"])
@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_can_be_built_on_every_network(name, network, dataset):
    if (network, dataset) == ("reference", "celeba") and name not in ("wwae", "wae_gan", "gan"):
        pytest.skip("three of them tell enough: these networks are large")
    method = experiments.build(experiments.experiment(dataset, name, network=network, latent=4)).eval()
    with torch.inference_mode():
        images = method.sample(2, 0)
    assert images.shape == (2, *DATASETS[dataset].shape) and images.min() >= 0 and images.max() <= 1
    assert isinstance(method, methods.AutoEncoder) == experiments.experiment(dataset, name).has_encoder


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_trains_in_bf16_and_resumes_bit_for_bit(name, digits, test_digits, tmp_path):
    experiment = small(name, epochs=2)
    fabric = training.choose_fabric("cpu", "bf16-mixed")

    def train(folder, **options):
        options_of_all = {"results": tmp_path / folder, "fabric": fabric, "progress": False} | options
        return training.train(experiment, digits, test_digits, **options_of_all)

    whole, save = train("whole"), runs.Draft.save_checkpoint
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupt(self, tensors, state):
            save(self, tensors, state)
            raise KeyboardInterrupt

        patch.setattr(runs.Draft, "save_checkpoint", interrupt)
        train("killed")
    resumed = train("killed", resume=True)
    assert whole.record["files"].keys() == resumed.record["files"].keys() == set(runs.files_of(experiment))
    for file in set(runs.files_of(experiment)) - {"metrics.jsonl"}:
        assert whole.record["files"][file] == resumed.record["files"][file], file
    assert whole.metrics == resumed.metrics
    line = whole.history()[-1]
    assert all(math.isfinite(value) for value in line.values())
    assert {"epoch", "learning_rate", "seconds"} < line.keys()
    reloaded = runs.load_method(runs.load(whole.path))
    assert not reloaded.training


def test_training_sees_pixels_as_they_are(digits, monkeypatch):
    """Also in bf16, whose 8 binary digits do not tell 253 / 255 from 254 / 255."""
    seen, loss = [], methods.WWAE.loss
    monkeypatch.setattr(
        methods.WWAE, "loss", lambda self, images, p: (seen.append(images), loss(self, images, p))[1]
    )
    fabric = training.choose_fabric("cpu", "bf16-mixed")
    training.fit_experiment(small(epochs=1), digits, fabric=fabric, progress=False)
    assert all(images.dtype == torch.float32 for images in seen)
    pixels = torch.cat(seen).mul(255)
    assert (pixels - pixels.round()).abs().max() < 1e-4 and len(pixels.round().unique()) > 200


def test_the_term_of_the_player_that_broke_is_named(digits, monkeypatch):
    told, calls = methods._told_apart, []

    def spoilt(*arguments):
        calls.append(1)
        loss = told(*arguments)
        return loss if len(calls) < 3 else loss._replace(terms=loss.terms | {"fooled": loss.total * math.nan})

    monkeypatch.setattr(methods, "_told_apart", spoilt)
    fabric = training.choose_fabric("cpu", "32-true")
    for name in ("gan", "wae_gan"):
        calls.clear()
        with pytest.raises(training.TrainingDiverged, match="epoch 1, step 3: fooled stopped being finite"):
            training.fit_experiment(small(name), digits, fabric=fabric, progress=False)


# ---------------------------------------------------------------- networks with batch normalisation


@pytest.mark.parametrize("name", ["wae_mmd", "vae"])
def test_evaluation_with_batch_normalisation_depends_on_an_image_alone(name, digits):
    torch.manual_seed(0)
    method = experiments.build(small(name, network="reference"))
    images = digits.pixels[:8] / 255
    method.train()
    method.loss(images)  # moves the running statistics
    assert not torch.equal(method.encode(images[:4])[0], method.encode(images)[0][:4])
    method.eval()
    with torch.inference_mode():
        together = method.reconstruct(images)
        alone = torch.cat([method.reconstruct(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_reference_counts():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    size = NETWORKS["reference"][28]
    encoder = Encoder((1, 28, 28), size, 16, 0.0)
    # 4 x 4 filters without bias, batch normalisation of two numbers a channel, dense layers.
    expected = 16 * 64 + 2 * 64 + 64 * 16 * 128 + 2 * 128 + 128 * 49 * 1024 + 2 * 1024 + 1024 * 16 + 16
    assert count(encoder) == expected
    decoder = Decoder((1, 28, 28), size, 16)
    expected = 16 * 1024 + 2 * 1024 + (1024 + 2) * 128 * 49 + 128 * 16 * 64 + 2 * 64 + 64 * 16 + 1
    assert count(decoder) == expected
    assert count(LatentDiscriminator(8)) == 9 * 512 + 3 * 513 * 512 + 513


def test_no_batch_normalisation_where_it_must_not_be():
    size = NETWORKS["reference"][28]

    def norms(module):
        return [
            name for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
        ]

    assert norms(Discriminator((1, 28, 28), size, False)) == []
    layers = Discriminator((1, 28, 28), size, True).layers
    assert isinstance(layers[1], nn.LeakyReLU) and isinstance(layers[3], nn.BatchNorm2d)
    assert norms(experiments.build(small("wgan_gp", network="reference")).critic) == []
    assert norms(experiments.build(small("wwae"))) == []
