from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from resnet_tl.training import precision
from resnet_tl.training.precision import FASTER, bf16_factor, choose_precision


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
def test_a_processor_without_bf16_is_told_by_the_clock(unmeasured):
    """oneDNN is told to use no newer instructions than AVX2."""
    code = "from resnet_tl.training.precision import choose_precision; print(choose_precision('cpu')[0])"

    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True
    )

    assert done.stdout.strip() == "32-true", done.stderr


def test_what_was_not_tried_stays_in_single_precision():
    assert choose_precision("tpu") == ("32-true", "bf16 is not tried on 'tpu'")
