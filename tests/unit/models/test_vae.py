"""What someone who encodes images sees from `models/vae.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLFlux2

from imagewright.config.vae import VaeConfig
from imagewright.models import vae as autoencoder
from imagewright.models.vae import VaeError

TINY = VaeConfig(resolution_px=16, block_out_channels=(8, 8), latent_channels=2, norm_num_groups=4)


def tiny(seed: int = 0) -> AutoencoderKLFlux2:
    torch.manual_seed(seed)
    return autoencoder.freeze(autoencoder.build_vae(TINY))


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_packing_follows_channel_row_column_order() -> None:
    packed = autoencoder.pack(torch.arange(8.0).view(1, 2, 2, 2))
    assert packed.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    wide = autoencoder.pack(torch.arange(8.0).view(1, 1, 2, 4))
    assert wide[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert wide[0, :, 0, 1].tolist() == [2, 3, 6, 7]


def test_unpacking_undoes_packing() -> None:
    latents = torch.randn(2, 3, 6, 4)
    assert torch.equal(autoencoder.unpack(autoencoder.pack(latents)), latents)


def test_statistics_make_normalised_latents_zero_mean_unit_deviation_on_unseen_images() -> None:
    vae = tiny()
    assert autoencoder.set_statistics(vae, (images(256, seed) for seed in range(8))) == 2048
    latents = autoencoder.encode(vae, images(2048, seed=99))
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02


def test_denormalising_undoes_normalising() -> None:
    vae = tiny()
    autoencoder.set_statistics(vae, [images(64)])
    packed = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(autoencoder.denormalise(vae, autoencoder.normalise(vae, packed)), packed)


def test_statistics_stay_exact_when_the_mean_is_far_above_the_deviation() -> None:
    vae = tiny()
    with torch.no_grad():
        vae.quant_conv.bias += 1000.0
    autoencoder.set_statistics(vae, [images(64)])
    expected = autoencoder.encode_raw(vae, images(64)).double().var(dim=(0, 2, 3))
    torch.testing.assert_close(vae.bn.running_var.double(), expected, rtol=1e-4, atol=1e-9)


def test_saved_folder_decodes_and_digests_the_same(tmp_path: Path) -> None:
    vae = tiny()
    autoencoder.set_statistics(vae, [images(64)])
    autoencoder.save_vae(vae, tmp_path / "vae")
    again = autoencoder.load_vae(tmp_path / "vae")
    latents = autoencoder.encode(vae, images(2))
    assert torch.equal(autoencoder.decode(vae, latents), autoencoder.decode(again, latents))
    assert autoencoder.digest(vae) == autoencoder.digest(again)
    assert autoencoder.digest(vae) != autoencoder.digest(tiny(seed=1))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_digest_changes_with_the_statistics() -> None:
    vae = tiny()
    before = autoencoder.digest(vae)
    autoencoder.set_statistics(vae, [images(64)])
    assert autoencoder.digest(vae) != before


def test_packing_other_than_two_by_two_is_refused() -> None:
    vae = AutoencoderKLFlux2(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        norm_num_groups=4,
        latent_channels=2,
        patch_size=(1, 1),
    )
    with pytest.raises(VaeError, match=r"vae\.patch_size.*\(2, 2\)"):
        autoencoder.check_packing(vae)


def test_transformer_channels_must_be_four_times_the_latent_channels() -> None:
    autoencoder.check_packing(tiny(), in_channels=8)
    with pytest.raises(VaeError, match=r"model\.in_channels.*set model\.in_channels to 8"):
        autoencoder.check_packing(tiny(), in_channels=7)


def test_image_sides_must_be_multiples_of_the_stride() -> None:
    assert autoencoder.stride(tiny()) == TINY.stride == 4
    with pytest.raises(VaeError, match="multiples of the stride 4"):
        autoencoder.encode(tiny(), torch.zeros(1, 3, 16, 18))


def test_folder_without_an_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"vae\.source: cannot be loaded"):
        autoencoder.load_vae(tmp_path)


def test_configuration_refuses_sizes_that_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="norm_num_groups=5 must divide"):
        VaeConfig(norm_num_groups=5)
    with pytest.raises(ValueError, match="multiple of the stride 8"):
        VaeConfig(resolution_px=36)
