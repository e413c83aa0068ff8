"""Networks have the shapes and sizes they claim, and a code depends on its own image alone."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from wwae_lib.data import DATASETS
from wwae_lib.networks import (
    NETWORKS,
    Decoder,
    Discriminator,
    Encoder,
    LatentDiscriminator,
    Size,
    _TransposedConv2d,
    size_of,
)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_shapes(dataset, network):
    shape, latent = DATASETS[dataset].shape, 5
    size = NETWORKS[network][shape[-1]]
    encoder, decoder = Encoder(shape, size, latent), Decoder(shape, size, latent)
    mean, log_variance = encoder(torch.rand(2, *shape))
    assert mean.shape == log_variance.shape == (2, latent)
    images = decoder(mean)
    assert images.shape == (2, *shape)
    assert images.min() >= 0 and images.max() <= 1


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_compact_are_about_a_million():
    shape, size = (1, 28, 28), NETWORKS["compact"][28]
    total = count(Encoder(shape, size, 8)) + count(Decoder(shape, size, 8))
    assert 0.9e6 < total < 1.1e6


def test_parameters_counted_by_hand():
    encoder = Encoder((1, 28, 28), Size((8, 16), 32, 24), 3)
    convolutions = (1 * 16 + 1) * 8 + (8 * 16 + 1) * 16 + (16 * 9 + 1) * 16
    assert count(encoder) == convolutions + (16 * 49 + 1) * 32 + (32 + 1) * 2 * 3
    decoder = Decoder((1, 28, 28), Size((8, 16), 24, 32), 3)
    dense = (3 + 1) * 32 + (32 + 1) * 16 * 49
    assert count(decoder) == dense + (16 * 9 + 1) * 16 + (16 * 16 + 0) * 8 + 8 + 8 * 16 * 1 + 1


def test_discriminators_of_images_leak_a_fifth():
    """LeakyReLUs of slope 0.2 (Radford et al. 2016), and no other; all other networks have plain ones."""
    shape, size = (1, 28, 28), NETWORKS["compact"][28]
    for normed in (False, True):
        parts = list(Discriminator(shape, size, normed).modules())
        slopes = [part.negative_slope for part in parts if isinstance(part, nn.LeakyReLU)]
        assert set(slopes) == {0.2}
        assert not any(isinstance(part, nn.ReLU) for part in parts)
    for module in (Encoder(shape, size, 3), Decoder(shape, size, 3), LatentDiscriminator(3)):
        assert not any(isinstance(part, nn.LeakyReLU) for part in module.modules())


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    shape, size = (1, 28, 28), NETWORKS["tiny"][28]
    encoder, decoder = Encoder(shape, size, 3), Decoder(shape, size, 3)
    mean, log_variance = encoder(torch.rand(8, *shape))
    decoder(mean + log_variance).sum().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_code_does_not_depend_on_the_rest_of_the_batch():
    torch.manual_seed(0)
    shape, size = (1, 28, 28), NETWORKS["tiny"][28]
    encoder, decoder = Encoder(shape, size, 3), Decoder(shape, size, 3)
    images = torch.rand(6, *shape)
    for module in (encoder.train(), encoder.eval()):
        together = module(images)
        alone = [module(image[None]) for image in images]
        for term in (0, 1):
            single = torch.cat([pair[term] for pair in alone])
            torch.testing.assert_close(together[term], single, rtol=1e-5, atol=1e-6)
    codes = together[0]
    torch.testing.assert_close(
        decoder(codes), torch.cat([decoder(code[None]) for code in codes]), rtol=1e-5, atol=1e-6
    )


def test_mean_and_log_variance_are_float32_and_images_too_under_autocast():
    shape, size = (1, 28, 28), NETWORKS["tiny"][28]
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = Encoder(shape, size, 3)(torch.rand(4, *shape))
        images = Decoder(shape, size, 3)(mean)
    assert mean.dtype == log_variance.dtype == images.dtype == torch.float32


def both_transposed(bias: bool = True) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and torch's, with the same weights."""
    torch.manual_seed(0)
    ours = _TransposedConv2d(5, 3, bias=bias)
    theirs = nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transposed_convolution_is_torchs(dtype, bias):
    """Values and every gradient; under autocast in its dtype, and to its rounding."""
    seen = []
    for layer in both_transposed(bias):
        x = torch.linspace(-2, 2, 2 * 5 * 49).view(2, 5, 7, 7).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = layer(x)
        assert out.dtype == dtype
        seen.append([out, *torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])])
    assert len(seen[0]) == 3 + bias
    near = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.2}
    for own, expected in zip(*seen, strict=True):
        torch.testing.assert_close(own, expected, **near)


def test_the_bias_is_added_apart_on_a_cpu_alone():
    """Where oneDNN's backward is slow with one; elsewhere the convolution is given it."""

    class Biases(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.convolution.default:
                seen.append(args[2] is not None)
            return function(*args, **(kwargs or {}))

    for device, expected in (("cpu", False), ("meta", True)):
        seen: list[bool] = []
        with Biases():
            both_transposed()[0].to(device)(torch.zeros(1, 5, 7, 7, device=device))
        assert seen == [expected], device


def test_weights_stored_before_fit_the_decoder():
    decoder = Decoder((1, 28, 28), NETWORKS["tiny"][28], 3)
    transposed = [name for name, layer in decoder.named_modules() if isinstance(layer, _TransposedConv2d)]
    assert len(transposed) == 2
    for name in transposed:
        layer = decoder.get_submodule(name)
        assert {key: value.shape for key, value in layer.state_dict().items()} == {
            "weight": (layer.in_channels, layer.out_channels, 4, 4),
            "bias": (layer.out_channels,),
        }


def test_a_decoder_can_be_exported():
    decoder, codes = Decoder((1, 28, 28), NETWORKS["tiny"][28], 3).eval(), torch.randn(2, 3)
    exported = torch.export.export(decoder, (codes,)).module()
    torch.testing.assert_close(exported(codes), decoder(codes))


@pytest.mark.parametrize("initial_std", [0.05, 1.0, 2.0])
def test_standard_deviations_begin_near_initial_std(initial_std):
    torch.manual_seed(0)
    encoder = Encoder((1, 28, 28), NETWORKS["tiny"][28], 3, initial_std)
    mean, log_variance = encoder(torch.rand(50, 1, 28, 28))
    std = (log_variance / 2).exp() / initial_std
    assert std.min() > 0.7 and std.max() < 1.4 and mean.abs().max() < 1


@pytest.mark.parametrize("shape", [(1, 28, 30), (1, 30, 30), (3, 27, 27)])
def test_images_that_cannot_be_halved(shape):
    for network in (Encoder, Decoder):
        with pytest.raises(ValueError, match=f"{shape[1]} x {shape[2]} pixels cannot be halved 2 times"):
            network(shape, Size((8, 16), 32, 32), 3)


@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_has_a_size_for_the_sides_that_own_images_take(channels, side):
    shape = (channels, side, side)
    for network in NETWORKS:
        size = size_of(network, shape)
        assert Decoder(shape, size, 2).eval()(torch.zeros(2, 2)).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(300, 1, 28, 28), (28, 28), (2, 28, 28)])
def test_the_shape_of_a_batch_is_not_taken_for_that_of_an_image(shape):
    with pytest.raises(ValueError, match=r"1 or 3 channels.*images.shape\[1:\]"):
        inspect.unwrap(size_of)("compact", shape)


def test_a_side_or_network_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="'compact' has no size for 30 x 30"):
        size_of("compact", (1, 30, 30))
    with pytest.raises(ValueError, match="no network 'huge'; known: tiny"):
        size_of("huge", (1, 28, 28))
