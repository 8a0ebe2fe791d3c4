# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""DinoAttention: timm's own attention, in any size, offline, exported, and as Ear's attention."""

from pathlib import Path
from time import perf_counter

import numpy as np
import openvino
import pytest
import timm
import torch
from anomalib.data import Folder
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from anomalib_ear import Ear
from anomalib_ear.method.attention import load_attention
from anomalib_ear.method.dino import DinoAttention
from conftest import Run, cli, folder_arguments, use

PATCHES = {16: "vit_small_patch16_224.dino", 8: "vit_small_patch8_224.dino"}
TINY = {
    "space": "pixels",
    "image_size": (56, 88),
    "channels": (4, 8, 8),
    "visualizer": False,
}  # multiples of 8, but not of 16 pixels


def sharpened(name: str) -> dict[str, Tensor]:
    """Return random weights under which attention varies between tokens and depends on their positions."""
    torch.manual_seed(0)
    state = timm.create_model(name, num_classes=0).state_dict()
    return {key: value * (15 if key == "pos_embed" else 5 if "qkv" in key else 1) for key, value in state.items()}


def attention(patch: int) -> DinoAttention:
    """Return an attention with sharpened weights."""
    result = DinoAttention(PATCHES[patch]).eval()
    result.vit.load_state_dict(sharpened(PATCHES[patch]))
    return result


def cached_file(home: Path) -> Path:
    """Return where the weights belong in a new Hugging Face cache."""
    repository = home / "hub" / "models--timm--vit_small_patch16_224.dino"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return snapshot / "model.safetensors"


@pytest.fixture(scope="module")
def patch16() -> DinoAttention:
    """Return the attention with patches of 16 pixels."""
    return attention(16)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment in which timm finds sharpened weights where it looks for DINO's."""
    home = tmp_path_factory.mktemp("huggingface")
    save_file(sharpened(PATCHES[16]), cached_file(home))
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def dino_run(surfaces: Path, cache: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of ``anomalib train --model Ear --model.masking dino``, long enough for masks to matter."""
    root = tmp_path_factory.mktemp("dino")
    done = cli(
        "train", "--model", "Ear", "--model.masking", "dino", "--model.image_size", "[56,88]",
        "--model.space", "pixels", "--model.channels", "[4,8,8]", "--model.skip_gates", "[true,true]",
        "--model.learning_rate", "0.02",
        "--trainer.max_epochs", "4", "--trainer.accelerator", "cpu",
        *folder_arguments(surfaces), cwd=root, environment=cache,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(root, next(root.rglob("model.ckpt")).resolve(), done.stdout + done.stderr)


def timms(vit: torch.nn.Module, image: Tensor) -> Tensor:
    """Return the class token's attention ``(N, hw)`` as timm's last block computes it without fusing."""
    kept: list[Tensor] = []
    last = vit.blocks[-1].attn
    last.fused_attn = False
    hook = last.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output))
    vit(image)
    hook.remove()
    last.fused_attn = True
    return kept[0][:, :, 0, 1:].mean(dim=1)


class TestMap:
    """What the map is."""

    @pytest.mark.parametrize("size", [(1, 1), (15, 40), (97, 64), (33, 226)], ids=str)
    @pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
    def test_has_the_images_size(self, patch16: DinoAttention, size: tuple[int, int], channels: int) -> None:
        """Any size gives a map of that size in [0, 1]."""
        result = patch16(torch.rand(2, channels, *size))
        assert result.shape == (2, 1, *size)
        assert result.min() >= 0
        assert result.max() <= 1

    @pytest.mark.parametrize(
        ("patch", "size"),
        [(16, (64, 96)), (16, (224, 224)), (16, (288, 240)), (8, (40, 64)), (8, (32, 240))],
        ids=str,
    )
    def test_equals_timm_s_attention(self, patch: int, size: tuple[int, int]) -> None:
        """Patch by patch what timm's network attends to, below, at and above the size of its pre-training."""
        dino = attention(patch)
        image = torch.rand(2, 3, *size)
        config = dino.vit.pretrained_cfg
        mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
        expected = timms(dino.vit, (image - mean) / std).reshape(2, 1, size[0] // patch, size[1] // patch)
        assert expected.std() > expected.mean() / 10  # there is something to compare
        expected = torch.nn.functional.interpolate(expected, size=size, mode="bilinear")
        torch.testing.assert_close(dino(image), expected, rtol=1e-3, atol=1e-6)

    def test_grey_equals_equal_colours(self, patch16: DinoAttention) -> None:
        """A grey image gives the map of the same image with three equal channels."""
        grey = torch.rand(1, 1, 40, 56)
        torch.testing.assert_close(patch16(grey), patch16(grey.expand(-1, 3, -1, -1)), rtol=0, atol=0)

    def test_refuses_other_channel_counts(self, patch16: DinoAttention) -> None:
        """The error names what was given and what is accepted."""
        with pytest.raises(ValueError, match=r"4 channels.*C = 1 or 3"):
            patch16(torch.rand(1, 4, 32, 32))


class TestFrozen:
    """What training must not change."""

    def test_training_mode_changes_nothing(self, patch16: DinoAttention) -> None:
        """In training mode nothing is dropped at random."""
        image = torch.rand(1, 3, 64, 96)
        expected = patch16(image)
        trained = patch16.train()(image)
        patch16.eval()
        assert torch.equal(trained, expected)

    def test_autocast_changes_nothing(self, patch16: DinoAttention) -> None:
        """The map is computed in float32 where the trainer asks for less."""
        image = torch.rand(1, 3, 64, 96)
        with torch.autocast("cpu", torch.bfloat16):
            result = patch16(image)
        assert torch.equal(result, patch16(image))

    def test_asks_for_no_gradient(self, patch16: DinoAttention) -> None:
        """No step of training keeps the network's intermediate results."""
        assert not patch16(torch.rand(1, 3, 32, 32)).requires_grad


def shallow(patch: int) -> DinoAttention:
    """Return an attention of two blocks, which exports in seconds; the whole network's export is tested with Ear."""
    result = attention(patch)
    result.vit.blocks = result.vit.blocks[-2:]
    return result


def compiled(
    dino: DinoAttention, shape: tuple[int, ...], root: Path, axes: dict | None = None
) -> openvino.CompiledModel:
    """Export to ONNX and compile in float32."""
    file = root / "dino.onnx"
    shapes = {"image": axes} if axes else None
    example = torch.rand(shape)
    torch.onnx.export(dino, (example,), file, dynamo=True, opset_version=18, dynamic_shapes=shapes, verbose=False)
    return openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def assert_same(dino: DinoAttention, exported: openvino.CompiledModel, size: tuple[int, int]) -> None:
    """Compare relative to the map's range: attention is small where there are many tokens."""
    image = torch.rand(1, 3, *size)
    expected = dino(image)
    spread = (expected.max() - expected.min()).item()
    torch.testing.assert_close(torch.from_numpy(exported(image.numpy())[0]), expected, rtol=0, atol=1e-4 * spread)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> tuple[DinoAttention, openvino.CompiledModel]:
    """Return an attention and its export of dynamic count, height and width."""
    axes = {0: torch.export.Dim("count"), 2: torch.export.Dim("h", min=17), 3: torch.export.Dim("w", min=17)}
    dino = shallow(16)
    return dino, compiled(dino, (2, 3, 70, 100), tmp_path_factory.mktemp("dynamic"), axes)


class TestExport:
    """OpenVINO gives torch's map."""

    @pytest.mark.parametrize("size", [(64, 96), (131, 77), (224, 224), (320, 250)], ids=str)
    def test_of_any_size(self, dynamic: tuple[DinoAttention, openvino.CompiledModel], size: tuple[int, int]) -> None:
        """One graph gives torch's map below, at and above the size of the pre-training."""
        assert_same(*dynamic, size)

    @pytest.mark.parametrize(("patch", "size"), [(16, (64, 101)), (16, (320, 240)), (8, (40, 65))], ids=str)
    def test_of_one_size(self, tmp_path: Path, patch: int, size: tuple[int, int]) -> None:
        """A graph traced for one size gives torch's map."""
        dino = shallow(patch)
        assert_same(dino, compiled(dino, (1, 3, *size), tmp_path), size)


class TestWeights:
    """Where the weights come from."""

    def test_are_those_in_the_cache(self, cache: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Without network, the cached file is loaded, frozen."""
        use(cache, monkeypatch)
        loaded = load_attention("dino")
        torch.testing.assert_close(dict(loaded.vit.state_dict()), sharpened(PATCHES[16]), rtol=0, atol=0)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert not loaded.training

    @pytest.mark.parametrize(("name", "patch"), [("dino", 16), ("dino8", 8)])
    def test_missing_are_named(
        self, nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, patch: int
    ) -> None:
        """One error, at once, names the file, its folder and the attention that needs none."""
        use(nothing, monkeypatch)
        start = perf_counter()
        with pytest.raises(FileNotFoundError, match=rf"model\.safetensors.*{PATCHES[patch]}.*HF_HOME.*mnist") as caught:
            load_attention(name)
        assert nothing["HF_HOME"] in str(caught.value)
        assert perf_counter() - start < 10

    def test_pickles_are_not_loaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cache with a pickle alone counts as empty: timm left to itself loads it."""
        use({"HF_HOME": str(tmp_path)}, monkeypatch)
        file = cached_file(tmp_path)
        torch.save(sharpened(PATCHES[16]), file.with_name("pytorch_model.bin"))
        (file.parents[2] / ".no_exist" / file.parent.name).mkdir(parents=True)  # the hub has said: no safetensors
        (file.parents[2] / ".no_exist" / file.parent.name / file.name).touch()
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
            load_attention("dino")

    def test_broken_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that safetensors cannot read gives one error with its folder and the remedy."""
        use({"HF_HOME": str(tmp_path)}, monkeypatch)
        cached_file(tmp_path).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=r"model\.safetensors.*vit_small_patch16_224\.dino.*Delete"):
            load_attention("dino")

    def test_unknown_name(self) -> None:
        """The error names the choices."""
        with pytest.raises(FileNotFoundError, match=r"mnist, dino, dino8, random, none.*'dinno'"):
            load_attention("dinno")


def good(surfaces: Path) -> Folder:
    """Return the good surfaces as a datamodule."""
    return Folder(
        name="surface", root=surfaces, normal_dir="good", train_batch_size=8, num_workers=0,
        test_split_mode="none", val_split_mode="from_train", val_split_ratio=0.2, seed=0,
    )  # fmt: skip


class TestEar:
    """Ear with DINO's attention needs the cache when training starts, and never again."""

    def test_checkpoint_holds_the_cached_weights(self, dino_run: Run) -> None:
        """Training loaded the weights and left them as they were."""
        trained = Ear.load_from_checkpoint(dino_run.checkpoint).model.space.attention
        torch.testing.assert_close(dict(trained.vit.state_dict()), sharpened(PATCHES[16]), rtol=0, atol=0)

    def test_training_warns_of_no_mode(self, dino_run: Run) -> None:
        """Lightning finds no module in evaluation mode."""
        assert "Modules in eval mode: 0" in dino_run.output

    @pytest.mark.parametrize("command", ["test", "predict"])
    def test_checkpoint_needs_no_cache(
        self, dino_run: Run, surfaces: Path, nothing: dict[str, str], tmp_path: Path, command: str
    ) -> None:
        """A new process, without network and cache, takes attention and weights from the checkpoint."""
        data = folder_arguments(surfaces) if command == "test" else ["--data", surfaces / "defective"]
        done = cli(
            command, "--model", "Ear", "--ckpt_path", dino_run.checkpoint, "--trainer.accelerator", "cpu",
            *data, cwd=tmp_path, environment=nothing,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def test_training_goes_on_without_a_cache(
        self, dino_run: Run, surfaces: Path, nothing: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A resumed training has the weights in its checkpoint, though the attention is named again."""
        use(nothing, monkeypatch)
        model = Ear(**TINY, masking="dino")
        engine = Engine(max_epochs=5, default_root_dir=tmp_path, accelerator="cpu")
        engine.fit(model, datamodule=good(surfaces), ckpt_path=dino_run.checkpoint)
        assert engine.trainer.current_epoch == 5
        trained = model.model.space.attention.vit.state_dict()
        torch.testing.assert_close(dict(trained), sharpened(PATCHES[16]), rtol=0, atol=0)

    def test_checkpoint_refuses_another_attention(self, dino_run: Run, surfaces: Path, tmp_path: Path) -> None:
        """The error names the attention of the training."""
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu")
        with pytest.raises(ValueError, match="trained with masking=dino, but"):
            engine.test(Ear(masking="dino8"), datamodule=good(surfaces), ckpt_path=dino_run.checkpoint)

    def test_missing_weights_stop_training_before_its_first_step(
        self, surfaces: Path, nothing: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The constructor needs no weights, training does."""
        use(nothing, monkeypatch)
        model = Ear(**TINY, masking="dino")
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
            Engine(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu").fit(model, datamodule=good(surfaces))

    def test_export_scores_as_the_trained_model(
        self, dino_run: Run, surfaces: Path, nothing: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From a file of its native size, exported without network and cache: within 1e-4."""
        done = cli(
            "export", "--model", "Ear", "--export_type", "openvino", "--ckpt_path", dino_run.checkpoint,
            "--export_root", tmp_path, cwd=tmp_path, environment=nothing,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        monkeypatch.chdir(tmp_path)  # the inferencer puts its cache into the working directory
        exported = tmp_path / "weights" / "openvino" / "model.xml"
        inferencer = OpenVINOInferencer(exported, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
        path = sorted((surfaces / "defective").iterdir())[0]
        prediction = inferencer.predict(np.asarray(Image.open(path)))
        model = Ear.load_from_checkpoint(dino_run.checkpoint, visualizer=False)
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu")
        expected = engine.predict(model, data_path=path)[0]
        assert prediction.pred_score.item() == pytest.approx(expected.pred_score.item(), abs=1e-4)
        np.testing.assert_allclose(prediction.anomaly_map.squeeze(), expected.anomaly_map.squeeze(), atol=1e-4)
        model.model.space.attention.vit.pos_embed *= 0.9
        other = engine.predict(model, data_path=path)[0]
        assert (other.anomaly_map - expected.anomaly_map).abs().max() > 3e-4  # another attention would have been seen
