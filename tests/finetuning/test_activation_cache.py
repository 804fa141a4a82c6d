"""Activations are computed once, kept whole and given back to the bit."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl import cache
from resnet_tl.finetuning.activation_cache import LocalRanks, activation_key, find_or_compute

ROWS = np.array([1, 4, 5, 9, 12])


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def maps(rows: np.ndarray, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """(N, 3, 4, 5), channels_last, each a function of its row."""
    generators = [torch.Generator().manual_seed(int(row)) for row in rows]
    parts = [torch.randn(3, 4, 5, generator=generator) for generator in generators]
    return torch.stack(parts).to(dtype).contiguous(memory_format=torch.channels_last) if parts else torch.empty(0)


class Computing:
    """Gives batches of two, and remembers the rows that it was asked for."""

    def __init__(self, make=maps) -> None:
        self.make = make
        self.asked: list[int] = []

    def __call__(self, rows):
        for start in range(0, len(rows), 2):
            part = rows[start : start + 2]
            self.asked += part.tolist()
            yield part, self.make(part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_computed_comes_back_to_the_bit_in_any_order(dtype):
    table = find_or_compute("ab", "", ROWS, Computing(lambda rows: maps(rows, dtype)))
    batch = np.array([12, 1, 5])
    assert table[batch].dtype == dtype
    assert torch.equal(table[batch], maps(batch, dtype))
    assert table[batch].is_contiguous(memory_format=torch.channels_last)


def test_features_and_pairs_of_maps_are_kept_too():
    features = find_or_compute("ab", "", ROWS, Computing(lambda rows: maps(rows).flatten(1)))
    assert torch.equal(features[ROWS[:3]], maps(ROWS[:3]).flatten(1))
    pairs = find_or_compute("cd", "", ROWS, Computing(lambda rows: (maps(rows), 2 * maps(rows))))
    left, right = pairs[ROWS[2:4]]
    assert torch.equal(left, maps(ROWS[2:4]))
    assert torch.equal(right, 2 * left)


def test_a_second_time_nothing_is_computed():
    first, second = Computing(), Computing()
    find_or_compute("ab", "", ROWS, first)
    table = find_or_compute("ab", "", ROWS, second)
    assert set(first.asked) == set(ROWS.tolist())
    assert second.asked == []
    assert torch.equal(table[ROWS], maps(ROWS))


def test_a_changed_batch_does_not_change_the_table():
    table = find_or_compute("ab", "", ROWS, Computing())
    table[ROWS].zero_()
    table.tensors[0].zero_()
    assert torch.equal(find_or_compute("ab", "", ROWS, Computing())[ROWS], maps(ROWS))


def test_no_rows_give_an_empty_batch():
    table = find_or_compute("ab", "", ROWS, Computing())
    assert table[np.array([], dtype=np.int64)].shape == (0, 3, 4, 5)


def test_what_cannot_be_kept_on_disk_is_kept_in_memory(monkeypatch, root):
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "0")
    table = find_or_compute("ab", "", ROWS, Computing())
    assert torch.equal(table[ROWS], maps(ROWS))
    assert cache.entries() == []


def test_an_error_while_computing_leaves_nothing(root):
    def compute(rows):
        yield rows[:1], maps(rows[:1])
        raise RuntimeError("broken image")

    with pytest.raises(RuntimeError, match="broken image"):
        find_or_compute("ab", "", ROWS, compute)
    assert cache.find("activations", "ab") is None
    assert torch.equal(find_or_compute("ab", "", ROWS, Computing())[ROWS], maps(ROWS))


def test_a_process_that_is_killed_leaves_nothing_that_is_taken_for_whole(root):
    code = """
import os, signal, numpy as np, torch
from resnet_tl.finetuning.activation_cache import find_or_compute
def compute(rows):
    yield rows[:1], torch.ones(1, 2)
    if len(rows) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
find_or_compute("ab", "", np.array([1, 4, 5, 9, 12]), compute)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ})
    assert done.returncode == -9
    assert list((root / "activations").glob(".ab.*")), "it was killed while it wrote"
    assert cache.find("activations", "ab") is None
    computing = Computing()
    assert torch.equal(find_or_compute("ab", "", ROWS, computing)[ROWS], maps(ROWS))
    assert set(computing.asked) == set(ROWS.tolist())


def test_the_processes_of_a_machine_fill_it_together():
    world = 3
    gate = threading.Barrier(world)
    box: list = [None]

    def run(rank: int):
        def exchange(value):
            if rank == 0:
                box[0] = value
            gate.wait()
            told = box[0]
            gate.wait()
            return told

        computing = Computing()
        table = find_or_compute("ab", "", ROWS, computing, LocalRanks(rank, world, exchange, gate.wait))
        return computing.asked, table[ROWS]

    with ThreadPoolExecutor(world) as pool:
        for _ in range(2):  # the second time it is there
            results = list(pool.map(run, range(world)))
            assert all(torch.equal(table, maps(ROWS)) for _, table in results)
            shares = [set(asked) for asked, _ in results]
            if _ == 0:
                assert shares == [{1, 9}, {4, 12}, {5}]
            else:
                assert shares == [set(), set(), set()]


def test_the_key_depends_on_every_fact():
    key = activation_key(weights="a", view=0)
    assert key == activation_key(view=0, weights="a")
    assert len({key, activation_key(weights="b", view=0), activation_key(weights="a", view=1)}) == 3


def test_a_small_table_moves_to_the_device():
    table = find_or_compute("ab", "", ROWS, Computing()).to(torch.device("cpu"))
    assert torch.equal(table[ROWS], maps(ROWS))
