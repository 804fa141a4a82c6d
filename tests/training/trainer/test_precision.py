from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from resnet_tl.training.trainer import precision
from resnet_tl.training.trainer.precision import FASTER, bf16_factor, choose_precision


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.delenv(precision._MEASURED, raising=False)


@pytest.mark.parametrize(("factor", "word"), [(FASTER, "bf16-mixed"), (FASTER - 0.1, "32-true")])
def test_a_cpu_computes_in_bf16_where_it_was_measured_to_be_faster(monkeypatch, factor, word):
    monkeypatch.setenv(precision._MEASURED, str(factor))

    chosen, why = choose_precision("cpu")

    assert chosen == word
    assert why == f"on this CPU a convolution in bf16 is {factor:.1f} times as fast as in float32"


def test_the_measurement_leaves_no_trace(unmeasured):
    state, threads = torch.get_rng_state(), torch.get_num_threads()

    factor = bf16_factor()

    assert factor > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_it_is_made_once_also_for_processes_that_are_started_later(unmeasured):
    factor = bf16_factor()

    assert bf16_factor() == factor
    assert float(os.environ[precision._MEASURED]) == factor


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_a_processor_without_bf16_is_found_by_the_measurement(unmeasured):
    """oneDNN is told to use no newer instructions than AVX2."""
    code = "from resnet_tl.training.trainer.precision import choose_precision; print(choose_precision('cpu')[0])"

    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True
    )

    assert done.stdout.strip() == "32-true", done.stderr


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
@pytest.mark.parametrize(
    ("name", "capability", "word"),
    [("NVIDIA H100", 9, "bf16-mixed"), ("Tesla T4", 7, "16-mixed"), ("Tesla P100", 6, "16-mixed")],
)
def test_a_gpu_computes_in_the_half_precision_that_it_has(monkeypatch, accelerator, name, capability, word):
    """Emulated bf16, which torch would offer on any GPU, is slower than float32."""
    monkeypatch.setattr(torch.version, "hip", None)
    for function, result in {
        "is_available": True,
        "current_device": 0,
        "get_device_name": name,
        "get_device_properties": SimpleNamespace(major=capability),
    }.items():
        monkeypatch.setattr(torch.cuda, function, lambda *_, result=result: result)

    chosen, why = choose_precision(accelerator)

    assert chosen == word
    assert why.startswith(name)


@pytest.mark.parametrize("accelerator", ["mps", "tpu"])
def test_what_was_not_tried_stays_in_single_precision(accelerator):
    assert choose_precision(accelerator) == ("32-true", f"half precision is not tried on '{accelerator}'")
