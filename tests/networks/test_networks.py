from __future__ import annotations

import pytest
import torch
import torch._dynamo
from torch import nn

from latentcause.diffusion import Cosine, GaussianDenoiser, NetworkDenoiser, denoising_loss, draw_times, noised
from latentcause.networks import Conditioner, ImageEncoder, ScoreMLP, UNet
from latentcause.training import seeded


def made(kind: type[nn.Module], *args, seed: int = 0, **settings) -> nn.Module:
    with seeded(seed):
        return kind(*args, **settings)


def awake(network: nn.Module) -> nn.Module:
    """The network with all parameters drawn anew, also those that start at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return network


def normal(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unet(code_size: int = 0, channels: tuple[int, ...] = (8, 16), **settings) -> nn.Module:
    return made(UNet, 2, code_size, channels, **settings)


CONDITIONED = [
    pytest.param(lambda code: unet(code), (5, 2, 8, 12), id="UNet"),
    pytest.param(lambda code: made(ScoreMLP, 6, code, width=16), (5, 6), id="ScoreMLP"),
]


@pytest.mark.parametrize(("make", "shape"), CONDITIONED)
@pytest.mark.parametrize("code_size", [0, 3])
def test_score_networks_keep_the_shape_and_start_at_zero(make, shape, code_size):
    network, code = make(code_size), normal(shape[0], 3) if code_size else None
    out = network(normal(*shape), torch.linspace(0, 1, shape[0]), code)
    assert out.shape == shape
    assert not out.any()
    assert awake(network)(normal(*shape), torch.linspace(0, 1, shape[0]), code).any()


@pytest.mark.parametrize(("make", "shape"), CONDITIONED)
def test_rows_whose_code_is_withheld_are_told_nothing(make, shape):
    network = awake(make(3))
    x, t, code = normal(*shape), torch.linspace(0, 1, shape[0]), normal(shape[0], 3)
    withheld = torch.tensor([True, False, True, False, False])
    mixed, alone, told = network(x, t, code, withheld), network(x, t), network(x, t, code)
    torch.testing.assert_close(mixed[withheld], alone[withheld])
    torch.testing.assert_close(mixed[~withheld], told[~withheld])
    assert (alone - told).abs().flatten(1).amax(1).min() > 1e-4


@pytest.mark.parametrize(("make", "shape"), CONDITIONED)
def test_rows_do_not_depend_on_each_other(make, shape):
    network = awake(make(3))
    x, t, code = normal(*shape), torch.linspace(0, 1, shape[0]), normal(shape[0], 3)
    torch.testing.assert_close(network(x, t, code)[2:3], network(x[2:3], t[2:3], code[2:3]))


@pytest.mark.parametrize(("make", "shape"), CONDITIONED)
def test_the_gradient_reaches_every_parameter(make, shape):
    network = awake(make(3))
    withheld = torch.tensor([True, False, True, False, False])
    out = network(normal(*shape), torch.linspace(0.1, 0.9, shape[0]), normal(shape[0], 3), withheld)
    out.square().sum().backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@pytest.mark.parametrize(("make", "shape"), CONDITIONED)
def test_the_time_matters(make, shape):
    network, x = awake(make(0)), normal(*shape)
    early, late = network(x, torch.full((shape[0],), 0.1)), network(x, torch.full((shape[0],), 0.9))
    assert (early - late).abs().max() > 1e-3


def test_times_that_differ_a_little_are_told_apart_a_little():
    told = made(Conditioner, 32, 0)
    near, far = told(torch.tensor([0.5, 0.5001])), told(torch.tensor([0.5, 0.6]))
    assert 0 < (near[0] - near[1]).norm() < (far[0] - far[1]).norm()


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(
    ("channels", "unshuffle", "size"), [((8,), 1, (5, 7)), ((8, 16), 1, (6, 10)), ((8, 8, 16), 4, (16, 32))]
)
def test_unet_of_any_depth_keeps_the_shape(channels, unshuffle, size, blocks):
    network = awake(unet(channels=channels, unshuffle=unshuffle, blocks=blocks))
    assert network(normal(2, 2, *size), torch.linspace(0, 1, 2)).shape == (2, 2, *size)


@pytest.mark.parametrize("size", [(10, 8), (8, 10)])
def test_unet_refuses_images_that_it_cant_halve(size):
    with pytest.raises(ValueError, match=f"images of {size[0]} x {size[1]} can't be halved .* multiples of 4"):
        unet()(normal(2, 2, *size), torch.linspace(0, 1, 2))


def test_unet_refuses_channels_that_attention_cant_divide():
    with pytest.raises(ValueError, match=r"channels=\[8, 18\]: give multiples of 4"):
        unet(channels=(8, 18))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_order_of_pixels_in_memory_does_not_matter(order):
    x = normal(3, 2, 8, 8)
    network, encoder = awake(unet()), made(ImageEncoder, 2, 5, channels=(8, 8))
    t = torch.rand(3, generator=torch.Generator().manual_seed(0))
    plain, plain_code = network(x, t), encoder(x)
    for module in (network, encoder):
        module.to(memory_format=order)
    torch.testing.assert_close(network(x.contiguous(memory_format=order), t), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(x.contiguous(memory_format=order)), plain_code, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 1)])
def test_encoder_takes_images_of_any_size(size):
    assert made(ImageEncoder, 3, 5, channels=(8, 8))(normal(2, 3, *size)).shape == (2, 5)


def test_the_gradient_reaches_every_parameter_of_the_encoder():
    encoder = made(ImageEncoder, 1, 4, channels=(8, 8))
    encoder(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in encoder.parameters())


def test_encoder_sees_the_brightness_of_an_even_image():
    encoder = made(ImageEncoder, 1, 4)
    dark, bright = encoder(torch.full((1, 1, 8, 8), 0.3)), encoder(torch.full((1, 1, 8, 8), 0.6))
    assert (dark - bright).abs().max() > 1e-3


def test_score_network_learns_the_exact_denoiser_of_a_gaussian():
    schedule, generator = Cosine(), torch.Generator().manual_seed(0)
    mean, covariance = torch.tensor([1.0, -0.5]), torch.tensor([[1.0, 0.6], [0.6, 0.5]])
    factor = torch.linalg.cholesky(covariance)
    network = made(ScoreMLP, 2, width=64, depth=2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(600):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / 600)
        x = mean + torch.randn(256, 2, generator=generator) @ factor.T
        t = draw_times(256, generator, x, 0.01, 0.99)
        x_t, noise, alpha, sigma = noised(x, t, schedule, generator)
        optimiser.zero_grad()
        denoising_loss(network(x_t, t.to(x)), "velocity", x, noise, alpha, sigma).mean().backward()
        optimiser.step()
    exact, learned = GaussianDenoiser(mean, covariance, schedule), NetworkDenoiser(network, schedule)
    x = mean + torch.randn(2000, 2, generator=generator) @ factor.T
    for t in (0.2, 0.5, 0.8):
        x_t = noised(x, torch.full((2000,), t), schedule, generator)[0]
        wanted = exact(x_t, t).to("velocity")
        with torch.no_grad():
            error = learned(x_t, t).to("velocity") - wanted
        assert error.square().mean() < 0.02 * wanted.var()
