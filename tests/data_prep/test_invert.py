"""The inversion command, whole: what it writes, what it leaves out, and that nothing is lost when it is killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.common import cli
from cvg.common.files import read_json
from cvg.media.video import write_video
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.stream import read_records
from data_prep import invert, render
from data_prep.inversion.recording import Passed, Prepared, Recorder
from tests.helpers.tiny import make_pipeline

SMALL = ["--steps", "3", "--at", "[0, 1]", "--layers", "[0, 2]", "--min_psnr", "-100", "--seed", "5"]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    render.main(folder, clips=6, seed=3)
    return folder


def command(data: Path, out: Path, generator: Path, *extra: str) -> list[str]:
    options = ["--data", str(data), "--out", str(out), "--generator", str(generator)]
    return [sys.executable, "-m", "data_prep.invert", *options, *SMALL, *extra]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """The command in this process, which has imported everything already."""
    given, out, err, code = [str(a) for a in args], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(invert.main, "python -m data_prep.invert", args=given[3:])
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())


def digests(folder: Path) -> dict[str, str]:
    names = [*folder.glob("*.tar"), folder / "shards.json", folder / "rejects.jsonl"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


@pytest.fixture(scope="module")
def finished(clips: Path, generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    done = run(*command(clips, out, generator))
    assert done.returncode == 0, done.stderr
    return out


def test_shards_hold_both_polarities_of_every_relation(finished: Path) -> None:
    info = ShardInfo.load(finished)
    assert info.layers == [0, 2] and len(info.sigmas) == 2 and info.grid == [4, 8, 8] and not info.rejected
    records = read_records(finished, SPLITS)
    assert len(records) == sum(info.count(split) for split in info.counts)
    for record in records:
        assert record.positive_SLAKFHW.shape == info.shape
        assert record.label != record.meta["negative_label"]
        group = {label.name for label in info.label_set.groups[record.meta["group"]]}
        assert {record.label, record.meta["negative_label"]} <= group
        assert not torch.equal(record.positive_SLAKFHW, record.negative_SLAKFHW)
        assert record.meta["prompt_positive"] != record.meta["prompt_negative"]
        assert len(record.meta["psnr"]) == 2
        for prompt, entities in (("prompt_positive", "entities_positive"), ("prompt_negative", "entities_negative")):
            for entity in record.meta[entities]:
                assert record.meta[prompt][entity["start"] : entity["end"]] == entity["phrase"]
    assert not (finished / "parts").exists()


@pytest.mark.slow  # a process that begins anew, and any moment; tests/hostile/test_kills.py has a chosen one
def test_a_killed_run_continues_to_the_same_bytes(clips: Path, generator: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(command(clips, out, generator), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while sum(path.read_bytes().count(b"\n") for path in out.glob("parts/*.outcomes.jsonl")) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "shards.json").exists()
    again = run(*command(clips, out, generator))
    assert again.returncode == 0
    videos = re.search(r": (\d+) videos, 0 of them left out", again.stderr)
    assert videos and int(videos[1]) <= 4  # of six
    assert digests(out) == digests(finished)


@pytest.mark.slow  # tests/hostile/test_kills.py kills some of them
@pytest.mark.parametrize("started", ["here", "torchrun"])
def test_four_processes_make_the_bytes_of_one(
    started: str, clips: Path, generator: Path, finished: Path, tmp_path: Path
) -> None:
    line = command(clips, tmp_path, generator, "--devices", "4")
    if started == "torchrun":
        line = [line[0], "-m", "torch.distributed.run", "--nproc_per_node", "4", *line[1:-2]]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path) == digests(finished)
    told = {*re.findall(r"process (\d) of 4 \(.*, cpu\): ", done.stderr)}  # not those that it was over for at once
    assert "1" in told and told <= {*"1234"}
    assert done.stdout.count("records (") == 1 and done.stderr.count("note: ") == 1


def _as_srun_starts_it(task: int, said: Path, line: list[str]) -> None:
    """A process with the environment of one of two tasks on one machine."""
    os.environ |= {
        **{
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NAME": "invert",
            "SLURM_JOB_NODELIST": "node7",
            "SLURM_NODELIST": "node7",
        },
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"},
        **{"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_ID": "0", "SLURM_CPUS_PER_TASK": "1"},
    }
    done = run(*line)
    said.write_text(done.stdout + done.stderr)
    raise SystemExit(done.returncode)


def test_two_tasks_of_slurm_make_the_bytes_of_one_process(
    clips: Path, generator: Path, finished: Path, tmp_path: Path
) -> None:
    line = command(clips, tmp_path / "out", generator)
    begun = [
        multiprocessing.get_context("fork").Process(
            target=_as_srun_starts_it, args=(task, tmp_path / f"{task}.txt", line)
        )
        for task in range(2)
    ]
    for process in begun:
        process.start()
    for process in begun:
        process.join(300)
    said = [(tmp_path / f"{task}.txt").read_text() for task in range(2)]
    assert [process.exitcode for process in begun] == [0, 0], said
    assert digests(tmp_path / "out") == digests(finished)
    # The first tells of the whole; each is one of two, unless all was done when it had begun.
    assert "records (" in said[0] and "records (" not in said[1]
    assert re.search(r"process [12] of 2 \(.*, cpu\): ", "".join(said))


@pytest.mark.slow
def test_the_first_of_the_processes_may_be_killed_and_another_number_goes_on(
    clips: Path, generator: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(command(clips, out, generator, "--devices", "2"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(out.glob("parts/*.outcomes.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert run(*command(clips, out, generator)).returncode == 0  # beside the one that is left
    assert digests(out) == digests(finished)


def test_videos_that_go_through_together_give_the_same_records_but_last_digits(
    clips: Path, generator: Path, finished: Path, tmp_path: Path
) -> None:
    outs = []
    for number, devices in enumerate((1, 2)):  # the same ones go together, whoever takes them
        outs.append(tmp_path / str(number))
        begun = [
            multiprocessing.get_context("fork").Process(
                target=run, args=command(clips, outs[-1], generator, "--batch_size", "4")
            )
            for _ in range(devices)
        ]
        for process in begun:
            process.start()
        for process in begun:
            process.join(300)
            assert process.exitcode == 0
    assert digests(outs[0]) == digests(outs[1]) != digests(finished)
    for alone, together in zip(read_records(finished, SPLITS), read_records(outs[0], SPLITS), strict=True):
        assert (alone.key, alone.label, alone.present) == (together.key, together.label, together.present)
        assert {**alone.meta, "psnr": None} == {**together.meta, "psnr": None}
        assert alone.meta["psnr"] == pytest.approx(together.meta["psnr"], abs=0.01)
        for side in ("positive_SLAKFHW", "negative_SLAKFHW"):
            torch.testing.assert_close(getattr(alone, side), getattr(together, side), rtol=2e-3, atol=1e-6)


def test_a_row_at_fault_is_found_among_those_that_go_together(
    clips: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = Recorder.run

    def fail(self: Recorder, videos: list[Prepared], *rest: Any) -> list[Passed]:
        if any(video.row.video.name == "000002.mp4" for video in videos):
            raise RuntimeError("it is too much")
        return through(self, videos, *rest)

    monkeypatch.setattr(Recorder, "run", fail)
    done = run(*command(clips, tmp_path, generator, "--method", "noising", "--batch_size", "4"))
    assert done.returncode == 0 and "1 of 6 videos left out" in done.stdout
    assert "000002" in (tmp_path / "rejects.jsonl").read_text()


def test_an_estimate_says_what_all_will_take_and_writes_nothing(clips: Path, generator: Path, tmp_path: Path) -> None:
    options = ["--estimate", "true", "--devices", "8", "--num_nodes", "4"]
    done = run(*command(clips, tmp_path / "out", generator, *options))
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(
        r"estimate from 2 videos: (\S+) s each, (\d+) % of it in the network; (\S+) kB of records each\n"
        r"6 videos: .* minutes on 1 device, .* minutes on 32 devices; (\S+) kB of tars\n",
        done.stdout,
    )
    assert found, done.stdout
    seconds, share, each, tars = map(float, found.groups())
    assert 0 < seconds < 60 and 10 < share <= 100 and tars == pytest.approx(6 * each, rel=0.01)
    assert not (tmp_path / "out").exists()
    none = run(*command(clips, tmp_path / "out", generator, "--estimate", "true", "--min_psnr", "90"))
    assert none.returncode == 2 and "all videos that were tried are left out: replay PSNR" in none.stderr


def test_the_thread_beside_the_network_changes_no_byte(
    clips: Path, generator: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = invert.Crew
    monkeypatch.setattr(invert, "Crew", lambda *args: crew(*args[:3], False, *args[4:]))
    assert run(*command(clips, tmp_path, generator)).returncode == 0
    assert digests(tmp_path) == digests(finished)


def test_a_finished_run_is_not_done_again_and_other_settings_are_refused(
    clips: Path, generator: Path, finished: Path
) -> None:
    before = digests(finished)
    again = run(*command(clips, finished, generator))
    assert again.returncode == 0 and "records" in again.stdout and digests(finished) == before
    other = run(*command(clips, finished, generator, "--seed", "6"))
    assert other.returncode == 2 and "other settings" in other.stderr and "Traceback" not in other.stderr
    assert digests(finished) == before


def test_maps_are_stored_on_the_asked_grid(clips: Path, generator: Path, tmp_path: Path) -> None:
    done = run(*command(clips, tmp_path, generator, "--method", "noising", "--grid", "[4, 4, 2]"))
    assert done.returncode == 0, done.stderr
    info = ShardInfo.load(tmp_path)
    assert info.grid == [4, 4, 2] and info.token_grid == [4, 8, 8]
    assert all(record.positive_SLAKFHW.shape == info.shape for record in read_records(tmp_path, SPLITS))


@pytest.mark.parametrize("method", ["inversion", "noising"])
def test_unreadable_videos_are_listed_and_the_rest_goes_on(
    clips: Path, generator: Path, tmp_path: Path, method: str
) -> None:
    rows = (clips / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "videos").mkdir()
    for path in (clips / "videos").iterdir():
        (tmp_path / "videos" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "videos" / "000001.mp4").write_bytes(b"not a video")
    (tmp_path / "videos" / "000002.mp4").unlink()
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows[:4]) + "\n")
    done = run(*command(tmp_path, tmp_path / "out", generator, "--method", method))
    assert done.returncode == 0, done.stderr
    assert "2 of 4 videos left out" in done.stdout
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text()
    assert "000001" in rejects and "unreadable" in rejects
    (tmp_path / "manifest.jsonl").write_text(rows[1] + "\n")
    failed = run(*command(tmp_path, tmp_path / "all", generator, "--method", method))
    assert failed.returncode == 1 and "every video was left out" in failed.stderr


def test_the_gate_leaves_out_a_replay_that_misses_the_video(clips: Path, generator: Path, tmp_path: Path) -> None:
    done = run(*command(clips, tmp_path / "out", generator, "--min_psnr", "90", "--limit", "2"))
    assert done.returncode == 1
    assert read_json(tmp_path / "out" / "shards.json")["rejected"] == {"replay": 2}


def test_real_footage_of_any_size_goes_the_same_way(generator: Path, tmp_path: Path) -> None:
    frames = torch.randint(0, 255, (50, 90, 160, 3), dtype=torch.uint8).numpy()
    write_video(tmp_path / "walk in the park.mp4", frames, fps=25)
    (tmp_path / "manifest.jsonl").write_text(
        '{"video": "walk in the park.mp4", "template": "a {e0} {r0}", "entities": ["dog"], "label": "left", '
        '"group": "motion", "start": 0.4, "end": 1.6}\n'
        '{"video": "walk in the park.mp4", "template": "a {e0} {r0} a {e1}", "entities": ["dog", "woman"], '
        '"label": "right of", "end": 1.0}\n'
    )
    done = run(*command(tmp_path, tmp_path / "out", generator))
    assert done.returncode == 0, done.stderr
    info = ShardInfo.load(tmp_path / "out")
    assert sum(info.count(split) for split in info.counts) == 2


def test_shards_know_the_groups_of_labels_that_are_asked_for(clips: Path, generator: Path, tmp_path: Path) -> None:
    asked = ["--groups", "[motion, spatial, relative_motion]"]
    done = run(*command(clips, tmp_path / "out", generator), *asked)
    assert done.returncode == 0, done.stderr
    assert list(ShardInfo.load(tmp_path / "out").label_set.groups) == ["motion", "spatial", "relative_motion"]


def test_wrong_options_are_one_line(clips: Path, generator: Path, tmp_path: Path) -> None:
    for extra in (
        ["--layers", "[7]"],
        ["--heads", "[4]"],
        ["--at", "[5]"],
        ["--grid", "[4, 8, 9]"],
        ["--groups", "[size]"],
        ["--generator", "nowhere"],
        ["--data", "nothing.jsonl"],
    ):
        done = run(*command(clips, tmp_path / "out", generator), *extra)
        assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error:"), done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("grid", [None, (2, 4, 3)])
def test_records_and_live_capture_are_the_same_maps(
    clips: Path, generator: Path, grid: tuple[int, int, int] | None
) -> None:
    """What training reads and what guidance sees come from one path: bit for bit, at float16."""
    import random

    from cvg.composition.relations import entity_slots
    from cvg.generators import load_generator
    from cvg.grounding.maps import resample
    from cvg.grounding.slots import slot_maps
    from cvg.media.video import read_video
    from cvg.shapes.world import LABELS
    from data_prep import manifest
    from data_prep.inversion.latents import Settings
    from data_prep.inversion.recording import make_records

    row = manifest.load(clips, LABELS)[1]
    model = load_generator(str(generator))
    settings = Settings("noising", 3, [0, 1], 0, [0, 2], [0, 1, 2, 3], [13, 64, 64], 0.0, 5, grid)
    (record, *_) = make_records(row, model, LABELS, settings)
    composition = row.composition(LABELS, random.Random(f"5:{row.id}"))
    assert composition.prompt == record.meta["prompt_positive"]
    frames = torch.from_numpy(read_video(row.video, 13, 64, 64)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    source = torch.Generator().manual_seed(random.Random(f"5:{row.id}:noise").getrandbits(63))
    clean = model.encode_video(frames)
    noise = torch.randn(clean.shape, generator=source)
    schedule = model.schedule(3, (13, 64, 64))
    sigma = float(schedule.levels[1])
    latents = (1 - sigma) * clean + sigma * noise
    # Batched with another prompt, as the record was, so that the same kernels run.
    other = row.composition(LABELS, random.Random(9))
    conditioning = model.encode([composition, other])
    maps = model.entity_maps(latents.expand(2, *latents.shape[1:]), schedule.timesteps[1], conditioning, [0, 2])
    (live,) = slot_maps(maps, [0], [entity_slots(composition, composition.relations[0])])
    assert torch.equal(resample(live, grid or (4, 8, 8)).half(), record.positive_SLAKFHW[1])


def test_licences_go_from_the_manifest_to_the_records_and_shards(
    clips: Path, finished: Path, generator: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (clips / "manifest.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        line |= {"dataset": "mine", "licence": "CC-BY-4.0"}
    lines[0]["unconfirmed"] = True
    (clips / "licensed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(*command(clips / "licensed.jsonl", tmp_path, generator))
    assert done.returncode == 0, done.stderr
    assert "1 of 6 rows nobody has said" in done.stderr
    records = read_records(tmp_path, SPLITS)
    stated = [(record.meta["licence"], record.meta["dataset"]) for record in records if "licence" in record.meta]
    info = ShardInfo.load(tmp_path)
    assert info.licences == {
        "CC-BY-4.0": {"mine": stated.count(("CC-BY-4.0", "mine"))},
        "not stated": {"render": len(records) - len(stated)},
    }
    assert 0 < len(stated) < len(records)
    # Where none is stated all is as ever.
    assert "licences" not in read_json(finished / "shards.json")
    assert "licence" not in (finished / "run.json").read_text()
