# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What an export refuses, and what an exported model says of itself."""

import logging
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import openvino
import pytest
import torch
from anomalib.data import Folder
from anomalib.deploy import CompressionType, OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from openvino import opset13
from PIL import Image
from torchvision.transforms.v2 import Normalize, Resize

from anomalib_ear import Ear
from anomalib_ear.data import KolektorSDD2
from anomalib_ear.deploy import export, int8, training_data
from anomalib_ear.deploy.export import describe
from anomalib_ear.deploy.graph import vectorise_logarithms
from anomalib_ear.deploy.int8 import CalibrationImages, recalibrate
from anomalib_ear.deploy.runtime import DeployedModel
from anomalib_ear.host.post_processing import EarPostProcessor
from conftest import cli, folder_arguments

NO_IMAGES = torch.empty(0, 3, 1, 1, dtype=torch.uint8)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return good photographs of differing sizes, all for training."""
    root = tmp_path_factory.mktemp("good")
    (root / "good").mkdir()
    for index in range(6):
        photograph = np.random.default_rng(index).integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
        Image.fromarray(photograph).save(root / "good" / f"{index}.png")
    return Folder(
        name="good", root=root, normal_dir="good", num_workers=0, test_split_mode="none", val_split_mode="none"
    )


def calibrated(ear: Ear, good: Folder) -> Ear:
    """Calibrate a model that is hardly trained, and give it a threshold for images and none for pixels."""
    images = CalibrationImages(good, ear.pre_processor)
    photographs = torch.from_numpy(np.concatenate([images[index] for index in range(len(images))]))
    ear.model.train()(photographs)
    ear.model.keep_for_calibration(photographs)
    ear.model.calibrate()
    ear.post_processor._image_threshold.fill_(0.4)
    return ear.eval()


@pytest.fixture(scope="module")
def model(good: Folder) -> Ear:
    """Return a calibrated model."""
    torch.manual_seed(0)
    return calibrated(Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none", visualizer=False), good)


@pytest.fixture(scope="module")
def exported(model: Ear, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return the model's exports to torch, ONNX and OpenVINO."""
    root = tmp_path_factory.mktemp("exported")
    return model.to_torch(root), model.to_onnx(root), model.to_openvino(root)


@pytest.fixture
def quick(exported: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports take the ONNX model that is there, which torch needs long to make."""
    monkeypatch.setattr(torch.onnx, "export", lambda f, **_: shutil.copy(exported[1], f))


def test_logarithms_in_vectors() -> None:
    """Those of 1 + x are as exact as float32 lets them be, for small x as for large; others stay as they are."""
    x = np.concatenate([[0], np.logspace(-8, 5, 1000)]).astype(np.float32)
    image = opset13.parameter([len(x)], np.float32)
    outputs = [opset13.log(opset13.add(image, opset13.constant(added, np.float32))) for added in (1, 2)]
    network = openvino.Model(outputs, [image])
    vectorise_logarithms(network)
    assert [operation.get_type_name() for operation in network.get_ops()].count("Log") == 1
    found = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)
    np.testing.assert_allclose(found[0], np.log1p(x.astype(np.float64)), rtol=1e-6)
    np.testing.assert_allclose(found[1], np.log(x.astype(np.float64) + 2), rtol=1e-6)


@pytest.mark.parametrize("kind", ["to_onnx", "to_openvino", "to_torch"])
def test_a_model_that_is_not_trained_is_not_exported(kind: str, tmp_path: Path) -> None:
    """Its scores would mean nothing; the error says what is missing, and nothing is written."""
    with pytest.raises(ValueError, match="--ckpt_path"):
        getattr(Ear(space="pixels", visualizer=False), kind)(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_onnx_notes_precision_and_thresholds(exported: tuple[Path, Path, Path]) -> None:
    """Without one for pixels anomalib takes that of images."""
    read = onnx.load(exported[1])
    noted = {entry.key: entry.value for entry in read.metadata_props if entry.key.startswith("anomalib_ear.")}
    assert noted.pop("anomalib_ear.precision") == "f32"
    thresholds = {name: value for name, value in noted.items() if name.endswith("threshold")}
    assert {name: round(float(value), 6) for name, value in thresholds.items()} == {
        "anomalib_ear.image_threshold": 0.4,
        "anomalib_ear.pixel_threshold": 0.4,
    }


def test_thresholds_that_validation_did_not_give_are_not_noted() -> None:
    """A training without validation data has none."""
    assert describe(Ear(space="pixels", visualizer=False).post_processor, NO_IMAGES) == {"precision": "f32"}
    assert describe(None, NO_IMAGES) == {"precision": "f32"}


@pytest.mark.parametrize(
    ("post_processor", "noted"),
    [
        (
            EarPostProcessor(enable_normalization=False),
            dict.fromkeys(("label_threshold", "mask_threshold"), pytest.approx(0.4, abs=1e-6)),
        ),
        (PostProcessor(), {}),
        (PostProcessor(pixel_sensitivity=0.2), {"mask_threshold": pytest.approx(0.8, abs=1e-6)}),
    ],
    ids=["raw", "the host's", "the host's, less sensitive"],
)
def test_no_threshold_is_noted_to_undo_another_normalisation(post_processor: PostProcessor, noted: dict) -> None:
    """The line undoes Ear's normalisation by it, and of other scores would make raw ones that never were."""
    post_processor._image_threshold.fill_(0.4)
    found = describe(post_processor, NO_IMAGES)
    assert found.pop("precision") == "f32"
    assert {name: float(value) for name, value in found.items()} == noted


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "threshold"), [({"image_sensitivity": 0.2}, 0.8), ({"enable_normalization": False}, 0.4)], ids=str
)
def test_the_line_labels_by_the_threshold_that_anomalib_labels_by(
    model: Ear, tmp_path: Path, arguments: dict, threshold: float
) -> None:
    """Whatever the sensitivity, and of scores that are not normalised; a threshold that is given replaces it."""
    before, model.post_processor = model.post_processor, EarPostProcessor(**arguments)
    model.post_processor._image_threshold.fill_(0.4)
    try:
        path = model.to_openvino(tmp_path, input_size=(32, 32))
    finally:
        model.post_processor = before
    assert DeployedModel(path).threshold == pytest.approx(threshold, abs=1e-6)
    assert DeployedModel(path, threshold=0.5).threshold == 0.5


@pytest.mark.usefixtures("quick")
def test_a_pre_processor_that_was_replaced_resizes_with_antialias(model: Ear, tmp_path: Path) -> None:
    """In exports as in training, and what cannot be exported is refused."""
    before, image = model.pre_processor, torch.rand(1, 3, 200, 180, generator=torch.Generator().manual_seed(0))
    try:
        model.pre_processor = PreProcessor(Resize((32, 32), antialias=True))
        model.to_onnx(tmp_path)
        exported, trained = (getattr(model.pre_processor, name)(image) for name in ("export_transform", "transform"))
        model.pre_processor = PreProcessor(Normalize([0.5] * 3, [0.2] * 3))
        with pytest.raises(ValueError, match="leave Normalize"):
            model.to_onnx(tmp_path)
    finally:
        model.pre_processor = before
    torch.testing.assert_close(exported, trained, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("quick")
def test_openvino_notes_them_and_keeps_its_compression(model: Ear, tmp_path: Path) -> None:
    """Weights of half the size stay so."""
    sizes = {}
    for compression in (None, CompressionType.FP16):
        path = model.to_openvino(tmp_path / str(compression), input_size=(32, 32), compression_type=compression)
        read = openvino.Core().read_model(path)
        assert float(read.get_rt_info(["anomalib_ear", "image_threshold"]).astype(str)) == pytest.approx(0.4)
        assert read.get_rt_info(["anomalib_ear", "precision"]).astype(str) == "f32"
        assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.xml"]
        sizes[compression] = path.with_suffix(".bin").stat().st_size
        DeployedModel(path)
        data = bytearray(path.with_suffix(".bin").read_bytes())
        data[len(data) // 2] ^= 1
        path.with_suffix(".bin").write_bytes(data)
        with pytest.raises(
            ValueError, match=r"model\.bin is damaged, or not the one that was exported with model\.xml"
        ):
            DeployedModel(path)
    assert sizes[CompressionType.FP16] < 0.7 * sizes[None]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "library", "write", "count", "error"),
    [
        ("onnx", onnx, "save", 1, OSError(28, "No space left on device")),
        ("openvino", openvino, "save_model", 1, RuntimeError("basic_ios::clear: iostream error")),
        ("openvino", openvino, "save_model", 3, KeyboardInterrupt()),
    ],
    ids=["onnx", "openvino, the host's own", "openvino, the last"],
)
def test_the_old_model_stays_until_the_new_one_is_written(
    model: Ear, exported: tuple[Path, Path, Path], tmp_path: Path, kind: str, library: ModuleType, write: str,
    count: int, error: BaseException, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A line may be using it. The error of a full disk names the file, and nothing is left of the new one."""
    folder = tmp_path / "weights" / kind
    shutil.copytree(exported[1].parents[1] / kind, folder)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    original, calls = getattr(library, write), []

    def torn(written: object, path: object, **kwargs: object) -> None:
        calls.append(path)
        if len(calls) < count:
            original(written, path, **kwargs)
            return
        Path(path).write_bytes(b"torn")
        raise error

    monkeypatch.setattr(library, write, torn)
    with pytest.raises((OSError, KeyboardInterrupt)) as raised:
        getattr(model, f"to_{kind}")(tmp_path, input_size=(32, 32))
    assert raised.value is error if count > 1 else f"cannot write {folder}/model." in str(raised.value)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_gates_compute_the_same(good: Folder, tmp_path: Path) -> None:
    """With a closed skip cut out of the graph, for batches of one and of five photographs of odd sizes."""
    torch.manual_seed(0)  # among random images there are some that rounding gives another mask
    gates = (True, False)
    model = calibrated(
        Ear(space="pixels", image_size=(37, 51), channels=[4, 8, 8], skip_gates=gates, visualizer=False), good
    )
    path = model.to_openvino(tmp_path)
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 5):
        image = torch.rand(count, 3, 61, 43)
        with torch.no_grad():
            expected = model.post_processor(model.model(model.pre_processor.transform(image))).anomaly_map
        np.testing.assert_allclose(compiled(image.numpy())["anomaly_map"], expected, rtol=1e-4)
    shapes = [
        tuple(operation.input_value(1).get_shape()[:2])
        for operation in openvino.Core().read_model(path).get_ops()
        if operation.get_type_name() == "Convolution"
    ]
    assert [(4, 8 + 4) in shapes, (8, 8 + 8) in shapes] == list(gates)  # what decoders take from below and from skips
    constants = [
        tuple(operation.get_output_shape(0))
        for operation in openvino.Core().read_model(path).get_ops()
        if operation.get_type_name() == "Constant"
    ]
    assert not {(37, 37), (51, 51)} & set(constants)  # OpenVINO resizes, and no product resizes once more


@pytest.mark.parametrize("size", [(1270, 500), (1200, 1600), (319, 503), (20, 20)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_file_has_one_score(
    model: Ear, exported: tuple[Path, Path, Path], size: tuple[int, int], mode: str, tmp_path: Path
) -> None:
    """At its native size, in torch's, ONNX's and OpenVINO's exports and on the line: map and score within 1e-4."""
    shape = size if mode == "L" else (*size, 3)
    # Blocks as large as a pixel of what the model sees, of any brightness: noise would average out.
    blocks = np.random.default_rng(0).integers(0, 256, (32, 32, *shape[2:]), dtype=np.uint8)
    Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST).save(tmp_path / "photograph.png")
    with Image.open(tmp_path / "photograph.png") as opened:
        image = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)[None] / 255
    torch_path, *paths = exported
    with torch.no_grad():
        expected = model.post_processor(model.model(model.pre_processor.transform(image)))
        in_torch = torch.load(torch_path, weights_only=False)["model"](image)
    core = openvino.Core()
    graphs = [core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image.numpy()) for path in paths]
    on_line = DeployedModel(paths[1], "latency").predict(tmp_path / "photograph.png")
    answers = [in_torch._asdict(), *graphs]
    answers += [{"pred_score": np.array(on_line.score), "anomaly_map": on_line.anomaly_map}]
    for answer in answers:
        assert answer["pred_score"].item() == pytest.approx(expected.pred_score.item(), abs=1e-4)
        np.testing.assert_allclose(answer["anomaly_map"].squeeze(), expected.anomaly_map.squeeze(), atol=1e-4)


def test_int8_compute_nearly_the_same(
    model: Ear, exported: tuple[Path, Path, Path], good: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All convolutions of several channels and nothing else, by training images; the trained model stays as it is.

    A warning says that the model does not know its data, as one of an early version.
    """
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    path = model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ, datamodule=good)
    assert any("does not say what it was trained on" in message for message in caplog.messages)
    core = openvino.Core()
    operations = core.read_model(path).get_ops()
    inputs: dict[bool, list[str]] = {True: [], False: []}
    for operation in operations:
        if operation.get_type_name() == "Convolution":
            several = operation.input(1).get_shape()[1] > 1
            inputs[several] += [operation.input_value(index).get_node().get_type_name() for index in (0, 1)]
    assert inputs[True]
    assert "Constant" not in inputs[True]  # float weights would be
    assert "FakeQuantize" not in inputs[False]  # the map would have steps
    consumers = {
        target.get_node().get_type_name()
        for operation in operations
        if operation.get_type_name() == "FakeQuantize"
        for target in operation.output(0).get_target_inputs()
    }
    assert consumers == {"Convolution"}
    image = np.random.default_rng(9).random((1, 3, 45, 50), dtype=np.float32)
    exact, quantized = (
        core.compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)["anomaly_map"]
        for xml in (exported[2], path)
    )
    assert 0 < np.abs(exact - quantized).mean() < 0.05
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_int8_have_statistics_of_their_own(model: Ear, good: Folder) -> None:
    """What quantization adds to the residual counts as normal; without validation images thresholds stay."""
    trained = model.model.anomaly_map.residual.mean.clone()
    images = CalibrationImages(good, model.pre_processor)
    copied, thresholds = recalibrate(model.model, model.post_processor, images, (32, 32))
    assert not torch.equal(copied.anomaly_map.residual.mean, trained)
    assert thresholds.image_threshold == pytest.approx(0.4)
    assert torch.equal(model.model.anomaly_map.residual.mean, trained)


def test_int8_have_thresholds_of_their_own(
    model: Ear, good: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of its scores on validation images, which also tell what is lost; the trained model keeps its own."""
    for index in range(4):
        photograph = np.random.default_rng(10 + index).integers(50, 200, (40, 50, 3), dtype=np.uint8)
        (tmp_path / "defective").mkdir(exist_ok=True)
        Image.fromarray(photograph).save(tmp_path / "defective" / f"{index}.png")
    datamodule = Folder(
        name="both", root=good.root, normal_dir="good", abnormal_dir=tmp_path / "defective", num_workers=0,
        normal_split_ratio=0.4, val_split_mode="same_as_test", seed=0,
    )  # fmt: skip
    monkeypatch.setattr(int8, "MAX_LOSS", -1)
    path = model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ, datamodule=datamodule)
    (said,) = (record for record in caplog.records if record.name == int8.__name__)
    assert said.levelname == "WARNING"
    assert "in int8" in said.getMessage()
    scores = list(DeployedModel(path, "latency").predict_many(datamodule.val_data.samples["image_path"]))
    threshold = float(openvino.Core().read_model(path).get_rt_info(["anomalib_ear", "image_threshold"]).astype(str))
    # The best threshold is one of the scores, up to what rounding to int8 makes of another resize.
    assert min(abs(part.raw_score - threshold) for part in scores) < 1e-3
    assert min(abs(part.score - 0.5) for part in scores) < 1e-3
    assert threshold != pytest.approx(0.4, abs=5e-3)
    assert model.post_processor.image_threshold == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("kind", "named"), [("INT8_PTQ", "--data"), ("INT8_ACQ", "test images"), ("INT8", "threshold")]
)
def test_int8_that_cannot_be(model: Ear, kind: str, named: str, tmp_path: Path) -> None:
    """Without training images there are no ranges; test images choose nothing; other weights need another threshold."""
    with pytest.raises(ValueError, match=named):
        model.to_openvino(tmp_path, compression_type=CompressionType[kind])
    assert not list(tmp_path.iterdir())


def test_int8_sees_thin_defects(model: Ear, tmp_path: Path) -> None:
    """The data's own resize of masks holds for the thresholds of int8 too: a scratch of one pixel stays in its mask."""
    mask = np.zeros((96, 35), np.uint8)
    mask[31, 5:30] = 255
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for number in range(8):
            Image.new("RGB", (35, 96), "grey").save(tmp_path / part / f"{number}.png")
            Image.fromarray(mask * (number % 2)).save(tmp_path / part / f"{number}_GT.png")
    data = KolektorSDD2(tmp_path, num_workers=0)
    images = [batch for batch in CalibrationImages(data, model.pre_processor).validation() if batch.gt_label.any()]
    assert len(images) == 4
    assert all(batch.gt_mask.shape[-2:] == (32, 32) and batch.gt_mask.any() for batch in images)


def split(root: Path, **arguments: object) -> Folder:
    """Return the tiny surfaces as ``folder_arguments`` split them, with other values of some arguments."""
    return Folder(
        **{"name": "surface", "root": root, "normal_dir": "good", "abnormal_dir": "defective", "mask_dir": "masks"}
        | {"num_workers": 0, "val_split_mode": "from_train", "val_split_ratio": 0.2, "seed": 0}
        | arguments
    )


@pytest.fixture(scope="module")
def checkpoint(surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a model trained on the tiny surfaces."""
    root = tmp_path_factory.mktemp("trained")
    engine = Engine(max_epochs=1, default_root_dir=root, accelerator="cpu", logger=False)
    ear = Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none", visualizer=False)
    engine.fit(ear, datamodule=split(surfaces))
    engine.trainer.save_checkpoint(root / "model.ckpt")
    return root / "model.ckpt"


def test_the_command_ends_with_what_it_wrote(checkpoint: Path, surfaces: Path, tmp_path: Path) -> None:
    """It does not drown in lines about constants: the files, where they are and how large, stand at the end."""
    done = cli(
        "export", "--model", "Ear", "--export_type", "openvino", "--ckpt_path", checkpoint,
        "--compression_type", "INT8_PTQ", *folder_arguments(surfaces), "--export_root", tmp_path, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # An older OpenVINO asks torch whether the ONNX model is a program of its own, and torch denies it at length.
    lines = [line for line in done.stderr.splitlines() if "torch/export/" not in line]
    assert len(lines) < 30, done.stderr
    assert len(done.stdout.splitlines()) < 40, done.stdout
    (said,) = [line for line in lines[-3:] if "Wrote" in line]
    for suffix in (".xml", ".bin"):
        file = (tmp_path / "weights" / "openvino" / "model.xml").with_suffix(suffix).resolve()
        assert f"{file} ({file.stat().st_size / 1e6:.1f} MB)" in said
    assert "Replaced" not in done.stdout + done.stderr
    assert "INFO:nncf" not in done.stdout + done.stderr  # an older one warns of a torch that it does not know


def test_loggers_are_as_before_and_warnings_are_seen(
    model: Ear, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is silenced for an export is loud again afterwards, also after one that failed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", export.__name__)]
    for each in loggers:
        monkeypatch.setattr(each, "level", logging.DEBUG)
    model.to_openvino(tmp_path)
    with pytest.raises(Exception, match="no_such_thing"):
        model.to_onnx(tmp_path, no_such_thing=1)
    assert [each.level for each in loggers] == [logging.DEBUG] * len(loggers)
    with int8.only_warnings("onnx_ir"):
        logging.getLogger("onnx_ir.passes").warning("seen")
        logging.getLogger("onnx_ir.passes").info("not seen")
    assert "seen" in caplog.messages
    assert "not seen" not in caplog.messages


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seed": 1}, "validation images were trained on.*seed is 1, was 0"),
        ({"val_split_ratio": 0.4}, "validation images were trained on.*val_split_ratio is 0.4, was 0.2"),
        ({"val_split_mode": "same_as_test"}, "3 of 16 training images were not trained on .3 of them validated."),
        ({"normal_dir": "defective", "abnormal_dir": "good", "mask_dir": None}, "training images were not trained on"),
    ],
    ids=str,
)
def test_int8_from_another_split_are_refused(
    checkpoint: Path, surfaces: Path, arguments: dict[str, object], told: str, tmp_path: Path
) -> None:
    """Statistics would come from the wrong images and thresholds from those trained on: labels would flip."""
    model = Ear.load_from_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=told):
        model.to_openvino(
            tmp_path,
            compression_type=CompressionType.INT8_PTQ,
            datamodule=split(surfaces, **arguments),
        )
    assert not list(tmp_path.iterdir())


def test_int8_from_the_same_files_elsewhere(
    checkpoint: Path, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A data set that was moved is the same; it is known by its files, not by their place."""
    shutil.copytree(surfaces, tmp_path / "moved to")
    model, data = Ear.load_from_checkpoint(checkpoint), split(tmp_path / "moved to")
    images = CalibrationImages(data, model.pre_processor)
    model.training_data.insist_on(None, images.train, images.validated, data)
    assert not [record for record in caplog.records if "--data" in record.getMessage()]


def test_what_only_should_be_known_is_told() -> None:
    """Fewer training images, and other validation images that were not trained on, are no error."""
    trained = {"train": ["a", "b", "c"], "validation": ["d 0 ", "e 1 "], "settings": {"seed": None}}
    assert training_data.compare(trained, trained) == ("", "")
    error, warning = training_data.compare(trained, trained | {"train": ["a", "b"], "validation": ["d 0 ", "f 1 "]})
    assert not error
    assert "1 of 3 images that were trained on" in warning
    assert "of 2 validation images 1 are the same" in warning
    _, warning = training_data.compare(trained, trained | {"validation": ["d 0 ", "e 0 "]})
    assert "of 2 validation images 1 are the same" in warning  # another label
    _, warning = training_data.compare(trained, trained | {"validation": None})
    assert "cannot be compared" in warning


def test_a_file_that_is_gone_costs_no_checkpoint(
    surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The training is worth more than the note of what it was trained on."""
    shutil.copytree(surfaces, tmp_path / "data")
    engine = Engine(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu", logger=False)
    ear = Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none", visualizer=False)
    engine.fit(ear, datamodule=split(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    ear.training_data._noted = None
    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert Ear.load_from_checkpoint(tmp_path / "model.ckpt").model.calibration_images.any()
    assert any("could not be noted" in message for message in caplog.messages)


def test_the_model_s_resize_stands_in_for_the_data_s(model: Ear, surfaces: Path) -> None:
    """As in training: another one beside it would give int8 other statistics than the trained model's."""
    plain, resized = (
        CalibrationImages(split(surfaces, augmentations=augmentations), model.pre_processor)
        for augmentations in (None, Resize((8, 8)))
    )
    assert plain[3].shape == (1, 3, 32, 32)
    np.testing.assert_array_equal(plain[3], resized[3])


def test_the_stock_inferencer_in_the_precision_of_the_scores(
    model: Ear, exported: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU with bfloat16 OpenVINO takes that by itself; told to take float32 it gives the trained model's score."""
    monkeypatch.chdir(tmp_path)  # the inferencer puts its cache into the working directory
    image = np.random.default_rng(3).integers(0, 256, (45, 50, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = model.post_processor(model.model(model.pre_processor.transform(tensor))).pred_score.item()
    for path in exported[1:]:
        inferencer = OpenVINOInferencer(path, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
        assert inferencer.predict(image).pred_score.item() == pytest.approx(expected, abs=1e-5)
