"""Several gloo processes on this machine, and what they come to against one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import many_processes
import numpy as np
import pytest
from run_files import steps_of

from segzoo.tasks.processes import is_first_process, join_lists, largest_of_processes, process_count

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return many_processes.outcome(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def another_order(tmp_path_factory):
    """One process that adds each step up from two parts, as two processes do: what another order of sums changes."""
    return many_processes.outcome(tmp_path_factory.mktemp("parts"), *many_processes.ACCUMULATED)


def assert_equal_but_for_rounding(found, one, another) -> None:
    """At most ten times as far apart as another order of the same sums is in one process.

    A fixed bound would be that of one processor: rounding grows with each step, on each by another factor.
    """
    apart, rounding = (np.abs(np.subtract(values, one)) for values in (found, another))
    bound = 10 * rounding.max() + 1e-6 * np.max(np.abs(one))  # where both orders agree: a float of that size, rounded
    assert bound < 1e-2 * np.max(one), "rounding would hide a difference"
    assert np.all(apart <= bound), (apart, bound)


@pytest.fixture(scope="module")
def found(class_folder: Path, tmp_path_factory):
    """What two processes come to, under torchrun, which also says how many they are."""
    path = tmp_path_factory.mktemp("two") / "found.json"
    command = [*TORCHRUN, many_processes.__file__, str(path), str(class_folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "sync_dist" not in ended.stderr, "Lightning warns of what is logged"
    return json.loads(path.read_text())


def test_two_processes_come_to_the_same_as_one(one_process, another_order, found) -> None:
    sizes = zip(many_processes.VALIDATION_IMAGES, found["matrices"], strict=True)
    assert all(0 < np.sum(matrix) <= 48 * 64 * count for count, matrix in sizes)
    assert found["matrices"] == one_process["matrices"]
    assert found["losses"][-1] < found["losses"][0] - 0.1  # it did learn
    # The averaged ones: two processes of two batches of one image each against one batch of four.
    for key in ("losses", "averaged_losses"):
        assert_equal_but_for_rounding(found[key], one_process[key], another_order[key])
    assert found["miou"] == pytest.approx(one_process["miou"], rel=1e-2)
    for key in ("state_dict", "training_state_dict"):
        assert_equal_but_for_rounding(found[key], one_process[key], another_order[key])
    assert not np.allclose(found["state_dict"], found["training_state_dict"], rtol=1e-3)


def test_two_processes_train_a_classifier_as_one_does(found, class_folder: Path, tmp_path: Path) -> None:
    """Seven validation images in two processes, and two batches of one image each against one batch of four."""
    one, two = many_processes.classifier_outcome(tmp_path / "run", class_folder), found["classifier"]
    another = many_processes.classifier_outcome(tmp_path / "parts", class_folder, *many_processes.ACCUMULATED)
    assert_equal_but_for_rounding(two["losses"], one["losses"], another["losses"])
    assert np.sum(two["matrix"]) == 7
    assert two["matrix"] == one["matrix"]
    assert two["scores"] == pytest.approx(one["scores"])
    for key in ("state_dict", "training_state_dict"):
        assert_equal_but_for_rounding(two[key], one[key], another[key])
    assert not np.allclose(two["state_dict"], two["training_state_dict"], rtol=1e-3)


def test_alone_a_process_is_the_first_and_only_one() -> None:
    import torch

    assert (is_first_process(), process_count()) == (True, 1)
    assert largest_of_processes(15, torch.device("cpu")) == 15
    assert join_lists(["a"]) == ["a"]


@pytest.fixture
def start_two(tiny_yaml: Path, tmp_path: Path, repository: Path):
    """tools/train.py with two devices and a fault, which the second process alone has where `second` is set."""
    started = []

    def start(*arguments, fault: str | None = None, second: bool = False) -> subprocess.Popen[str]:
        inside = (
            f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import real_process, runpy\n"
            f"sys.argv = [{str(repository / 'tools' / 'train.py')!r}, *sys.argv[1:]]\n"
            f"if {fault!r} and (not {second} or os.environ.get('LOCAL_RANK') == '1'):\n"
            f"    name, *values = {fault!r}.split(':'); getattr(real_process, name)(*values)\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        script = tmp_path / "train_with_fault.py"
        script.write_text(inside)
        settings = ("trainer.devices=2", "trainer.accelerator=cpu") if "--resume" not in arguments else ()
        words = [sys.executable, str(script), *map(str, arguments), *settings]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def alone(process: subprocess.Popen[str]) -> bool:
    """Whether nothing of the process's group is left."""
    for _ in range(50):
        listed = subprocess.run(["ps", "-o", "pid=,stat=", "-g", str(process.pid)], capture_output=True, text=True)
        if not [line for line in listed.stdout.splitlines() if "Z" not in line]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("fault", "second", "status", "line"),
    [
        pytest.param(
            *("nan_loss:2", True, 1, "step 2: the loss is nan or infinite, for the images train_"),
            marks=pytest.mark.slow,
        ),
        pytest.param("nan_scores:3", True, 1, "the network's scores are no numbers", marks=pytest.mark.slow),
        pytest.param("nan_scores:3", False, 1, "the network's scores are no numbers", marks=pytest.mark.slow),
        pytest.param("in_validation:3:SIGTERM", True, 143, "stopped at step 3, which is saved", marks=pytest.mark.slow),
        pytest.param("in_step:2:SIGINT", False, 130, "stopped at step 3, which is saved", marks=pytest.mark.slow),
        pytest.param("in_step:2", True, 1, "process 1 ended with status -9", marks=pytest.mark.slow),
    ],
)
def test_all_processes_end_with_one_message(fault, second, status, line, start_two, tiny_yaml, tmp_path) -> None:
    run_dir = tmp_path / "run"
    process = start_two(tiny_yaml, f"run_dir={run_dir}", fault=fault, second=second)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == status, stderr
    said = " ".join(stderr.split())
    assert said.count(line) == 1, stderr
    assert said.count("error:") == (status == 1), stderr
    assert "Traceback" not in stderr
    assert alone(process)
    if status > 128:
        resumed = start_two("--resume", run_dir)
        _, stderr = resumed.communicate(timeout=200)
        assert resumed.returncode == 0, stderr
        assert steps_of(run_dir) == [(1, "train"), (2, "train"), (3, "train"), (3, "val"), *steps_of(run_dir)[4:]]
        assert [step for step, split in steps_of(run_dir) if split == "val"] == [3, 6]


@pytest.mark.slow
def test_without_the_first_process_the_others_end(start_two, tiny_yaml, tmp_path) -> None:
    process = start_two(tiny_yaml, f"run_dir={tmp_path / 'run'}", fault=f"wait:1:{tmp_path / 'ready'}")
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    for _ in range(300):
        if alone(process):
            return
        time.sleep(0.1)
    pytest.fail("a process is left")
