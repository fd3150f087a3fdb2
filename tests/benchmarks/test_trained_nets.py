"""The networks in examples/ are the ones their .json files describe."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from examples.make_samples import write_samples
from examples.trained import HERE, NETS, Net, accuracy, run, sqnr

FAMILIES = {"mobilenetv2_mnist_bn": "mobilenetv2_mnist", "mobilenetv2_mnist_dynamo": "mobilenetv2_mnist"}
MEGABYTE = 2**20


@pytest.mark.parametrize("net", NETS.values(), ids=lambda net: net.name)
def test_a_network_has_the_accuracy_that_its_description_says(net: Net) -> None:
    x, labels = net.test()
    description = json.loads((HERE / "models" / f"{FAMILIES.get(net.name, net.name)}.json").read_text())
    assert accuracy(run(net.path, x), labels) == description["float_test_accuracy"]


@pytest.mark.parametrize("net", NETS.values(), ids=lambda net: net.name)
def test_samples_are_the_first_of_the_train_part(net: Net) -> None:
    assert np.array_equal(net.samples(8), net.samples()[:8])


def test_a_seed_chooses_the_same_samples_again_and_others_than_the_first() -> None:
    net = NETS["mobilenetv2_mnist"]
    assert np.array_equal(net.samples(8, seed=3), net.samples(8, seed=3))
    assert not np.array_equal(net.samples(8, seed=3), net.samples(8))


def test_written_samples_are_one_array_as_the_network_takes_it(tmp_path) -> None:
    net = NETS["mobilenetv2_mnist"]
    with np.load(write_samples(net, tmp_path / "new" / "samples.npz", 4)) as file:
        assert file.files == ["samples"]
        assert file["samples"].shape == (4, 1, 28, 28)


@pytest.mark.parametrize(("quantized", "decibels"), [
    ([3.0, 4.0], math.inf),
    ([3.0, 3.5], 20.0),
    ([0.0, 0.0], 0.0),
    ([6.0, 8.0], 0.0),
])
def test_sqnr_is_signal_power_over_noise_power(quantized: list[float], decibels: float) -> None:
    assert sqnr(np.array([3.0, 4.0], np.float32), np.array(quantized, np.float32)) == decibels


@pytest.mark.parametrize(("outputs", "share"), [([[0.1, 0.9], [0.9, 0.1]], 0.5), ([[0.7], [0.2]], 0.5)])
def test_accuracy_takes_scores_of_classes_or_one_probability(outputs: list[list[float]], share: float) -> None:
    assert accuracy(np.array(outputs), np.array([1, 1])) == share


def test_examples_stay_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 8 * MEGABYTE
