"""The command line as a user meets it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

from ebmctl.cli import app, complete_resume
from ebmctl.cli.console import duration
from ebmctl.cli.train import parse_time
from ebmctl.errors import UsageError


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, complete_resume([*arguments]))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def process(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "ebmctl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_train_sample_and_resume(here):
    status, out, err = call("train", "noise", "--recipe", "tiny.toml", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["run"] == "runs/00000-noise"
    assert (result["steps"], result["diverged"]) == (6, False)
    assert "step 6/6" in err
    status, out, err = call(
        "sample", result["run"], "-n", "9", "-o", "a.png", "--chain", "c.gif", "--seed", "3", "--json"
    )
    assert status == 0, err
    sampled = json.loads(out)
    assert (sampled["output"], sampled["n"], sampled["seed"], len(sampled["energies"])) == ("a.png", 9, 3, 9)
    call("sample", result["model"], "-n", "9", "-o", "b.png", "--seed", "3")
    call("sample", result["model"], "-n", "9", "-o", "d.png", "--seed", "4")
    assert Image.open("a.png").tobytes() == Image.open("b.png").tobytes()
    assert Image.open("a.png").tobytes() != Image.open("d.png").tobytes()
    assert Image.open("a.png").text["seed"] == "3"
    assert Image.open("c.gif").n_frames == 4  # the noise, two rounds, the last steps
    status, out, err = call("train", "noise", "--resume", "--steps", "8", "--json")
    assert status == 0, err
    assert json.loads(out)["steps"] == 8
    assert "resuming runs/00000-noise from step 6" in err


def test_folder_of_images(here):
    (here / "pictures").mkdir()
    for i in range(12):
        Image.new("RGB", (20, 30), (20 * i, 0, 0)).save(here / "pictures" / f"{i}.png")
    arguments = ["--recipe", "tiny.toml", "--set", "data.size=8", "--out", "run", "--steps", "2"]
    status, _, err = call("train", "folder:pictures", *arguments)
    assert status == 0, err
    assert "folder:pictures" in (here / "run" / "config.toml").read_text()
    assert "pictures" not in (here / "run" / "model" / "README.md").read_text().split("```")[0]


def test_shards(here):
    for i in range(12):
        (here / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (20 * i, 0, 255)).save(here / "pictures" / f"{i}.png")
    arguments = ["data", "prepare", "folder:pictures", "--size", "8", "--out", "shards"]
    status, out, err = call(*arguments, "--json")
    assert status == 0, err
    assert json.loads(out) == {"output": "shards", "images": 11, "new": True}
    assert json.loads(call(*arguments, "--json")[1])["new"] is False
    status, _, err = call("train", "shards:shards", "--recipe", "tiny.toml", "--set", "data.channels=3", "--steps", "2")
    assert status == 0, err
    assert (here / "runs" / "00000-shards" / "model").is_dir()
    status, _, err = call("data", "prepare", "folder:pictures", "--size", "9", "--out", "shards")
    assert (status, err.splitlines()[-1][:6]) == (1, "error:")
    status, _, err = call("data", "prepare", "folder:pictures", "--split", "all", "--out", "shards")
    assert status == 2
    status, _, err = call("train", "shards:nowhere")
    assert (status, "holds no shards" in err) == (1, True)


def test_dry_run(here):
    status, out, err = call("train", "cifar10", "--recipe", "tiny.toml", "--dry-run", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["recipe"]["data"]["name"] == "cifar10"
    assert found["seconds"] == pytest.approx(6 * found["seconds_per_step"])
    assert found["parameters"] > 0
    assert found["memory_peak"] > found["memory_state"] > 0
    status, out, _ = call("train", "cifar10", "--recipe", "tiny.toml", "--dry-run", "--label", "class")
    assert status == 0
    assert "[network]" in out
    assert "seconds per training step" in out
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "digts"], 2, "unknown dataset 'digts': did you mean 'digits'?"),
        (["train", "digits", "--recipe", "digit"], 2, "unknown recipe 'digit': did you mean 'digits'?"),
        (["train", "digits", "--set", "optimizer.lrr=1"], 2, "did you mean 'optimizer.lr'?"),
        (["train", "digits", "--time", "3 weeks"], 2, "--time must be a duration such as"),
        (["train", "digits", "--device", "gpu"], 2, "--device must be auto, cpu, cuda or mps"),
        (["train", "digits", "--precision", "fp16"], 2, "--precision must be auto, fp32, tf32 or bf16"),
        (["train", "digits", "--compile", "yes"], 2, "--compile must be auto, on or off"),
        (["sample", "digits", "--compile", "yes"], 2, "--compile must be auto, on or off"),
        (["compose", "young", "--compile", "yes"], 2, "--compile must be auto, on or off"),
        (["ood", "--in", "digits", "--out", "noise", "--compile", "yes"], 2, "--compile must be auto, on or off"),
        (["evaluate", "digits", "--compile", "yes"], 2, "--compile must be auto, on or off"),
        (["train", "digits", "--steps", "0"], 2, "run: steps"),
        (["train", "noise", "--recipe", "tiny.toml", "--label", "x"], 2, "noise has no labels"),
        (["train", "folder:none", "--recipe", "tiny.toml"], 1, "there is no folder none"),
        (["train", "noise", "--recipe", "tiny.toml", "--out", "tiny.toml"], 1, "already exists"),
        (["train", "noise", "--recipe", "tiny.toml", "--out", "tiny.toml/x"], 1, "can't create the run folder"),
        (["train", "noise", "--resume"], 1, "no run of noise to resume"),
        (["train", "noise", "--resume", "tiny.toml"], 1, "is not a run folder"),
        (["train", "noise", "--recipe", "tiny.toml", "--set", "run.energy_bound=1e-9"], 1, "diverged at step 1"),
        (["sample", "none"], 1, "there is no model 'none'"),
        (["sample", "."], 1, ". is not a model folder"),
    ],
)
def test_bad_input_is_one_line_with_its_status(here, arguments, status, message):
    found, out, err = call(*arguments)
    assert found == status
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert out == ""
    if "diverged" not in message:
        assert [path.name for path in here.iterdir()] == ["tiny.toml"]  # nothing is left behind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.txt"], "the file name must end in .png"),
        (["--chain", "chain.mp4"], "the file name must end in .gif"),
        (["-o", "tiny.toml/x.png"], "can't write"),
        (["-n", "0"], "at least 1"),
        (["--sampler", "hmc"], "unknown sampler 'hmc'"),
        (["--label", "x"], "is unconditional"),
        (["--rounds", "-1"], "rounds must be at least 0"),
    ],
)
def test_bad_sample_options(here, arguments, message):
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run")[0] == 0
    before = sorted(here.rglob("*"))
    status, out, err = call("sample", "run", *arguments)
    assert status in (1, 2)
    assert message in err
    assert out == ""
    assert sorted(here.rglob("*")) == before


def test_divergence_as_json(here):
    status, out, err = call("train", "noise", "--recipe", "tiny.toml", "--set", "run.energy_bound=1e-9", "--json")
    assert status == 1
    result = json.loads(out)
    assert (result["diverged"], result["steps"]) == (True, 0)
    assert "error: training diverged at step 1" in err


def test_interrupt_saves_and_tells_how_to_go_on(here):
    running = process(
        "train", "noise", "--recipe", "tiny.toml", "--steps", "100000", "--compile", "off", "--out", "run", cwd=here
    )
    metrics = here / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=180)
    assert running.returncode == 130
    assert "resume with: ebmctl train noise --resume run" in err
    assert "Traceback" not in err
    lines = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert lines == list(range(1, len(lines) + 1))
    resumed = process("train", "noise", "--resume", "run", "--steps", str(len(lines) + 2), "--json", cwd=here)
    out, err = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, err
    assert json.loads(out)["steps"] == len(lines) + 2


@pytest.mark.slow
def test_two_processes_hold_the_same_weights(here):
    running = process("train", "noise", "--recipe", "tiny.toml", "--processes", "2", "--out", "run", "--json", cwd=here)
    out, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    assert json.loads(out.strip().splitlines()[-1])["steps"] == 6
    assert len((here / "run" / "metrics.jsonl").read_text().splitlines()) == 6
    arguments = ["--recipe", "tiny.toml", "--steps", "100000", "--time", "2s", "--processes", "2", "--json"]
    running = process("train", "noise", *arguments, cwd=here)  # both processes end at the same step
    out, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    assert 0 < json.loads(out.strip().splitlines()[-1])["steps"] < 100000


@pytest.mark.slow
def test_trackers(here):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status, _, err = call("train", "noise", "--recipe", "tiny.toml", "--out", "run", "--log-with", "tensorboard")
    assert status == 0, err
    events = EventAccumulator(str(next((here / "run").rglob("events.out.tfevents.*")).parent)).Reload()
    assert [event.step for event in events.Scalars("energy_difference")] == [1, 2, 3, 4, 5, 6]
    pictures = events.Images("samples/0" if "samples/0" in events.Tags()["images"] else "samples")
    assert [event.step for event in pictures] == [3, 6]
    assert (
        Image.open(io.BytesIO(pictures[0].encoded_image_string)).size
        == Image.open(here / "run" / "samples" / "step-000000003.png").size
    )
    status, _, err = call("train", "noise", "--recipe", "tiny.toml", "--out", "run2", "--log-with", "trackio")
    assert status == 1
    assert "is not installed" in err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["plugins", "--help"], 0),
        (["plugins"], 0),
        (["plugins", "new", "Big Name"], 2),
        (["sample", "--help"], 0),
        (["push", "--help"], 0),
        (["zoo", "list"], 0),
        (["zoo", "import", "--help"], 0),
        (["zoo", "show", "cifar"], 2),
        (["zoo", "import", "x.pth", "--recipe", "cifar"], 2),
        (["evaluate", "--help"], 0),
        (["evaluate"], 2),
        (["evaluate", "digits", "--metrics", "fidd"], 2),
        (["trian"], 2),
        (["train"], 2),
        (["train", "digits", "--stepz", "3"], 2),
        (["train", "digts"], 2),
        (["train", "digits", "--set", "optimizer.lr=fast"], 2),
    ],
)
def test_help_and_usage_errors_do_not_import_torch(arguments, status):
    program = (
        "import sys\nfrom ebmctl.cli import main\n"
        f"sys.argv = ['ebmctl', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code or 0\n"
        "heavy = {'torch', 'torchvision', 'accelerate', 'numpy', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "imported" not in done.stderr
    if status:
        assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(here):
    done = subprocess.run(
        [sys.executable, "-m", "ebmctl", "train", "digts", "--debug"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_parse_time():
    assert [parse_time(t) for t in ("90s", "3m", "1.5h", "2d")] == [90, 180, 5400, 172800]
    for bad in ("", "3", "m", "-3m", "0s", "3M", "1e3s"):
        with pytest.raises(UsageError):
            parse_time(bad)


def test_duration():
    assert [duration(s) for s in (0, 45, 200, 3600, 18720, 273600)] == [
        "0 s", "45 s", "3 min 20 s", "1 h", "5 h 12 min", "3 days 4 h",
    ]  # fmt: skip


def test_resume_needs_no_value():
    assert complete_resume(["train", "x", "--resume"]) == ["train", "x", "--resume=latest"]
    assert complete_resume(["train", "x", "--resume", "--json"]) == ["train", "x", "--resume=latest", "--json"]
    assert complete_resume(["train", "x", "--resume", "run"]) == ["train", "x", "--resume", "run"]
