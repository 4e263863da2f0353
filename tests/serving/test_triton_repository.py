"""Triton repositories: what is written, parsed as Triton parses it and compared with the graph."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from clickpath.cli import main
from clickpath.encoding import Encoder
from clickpath.errors import ConfigError, ModelMismatch, UsageError
from serving.batches import time_buckets
from serving.card import CARD_FILE, MODEL_FILE, read_card, write_card
from serving.embedded import EmbeddedPredictor, shipped_model
from serving.manifest import check_manifest
from serving.repository.config import ServingPlan
from serving.repository.fingerprints import PARAMETER, Fingerprints
from serving.repository.folder import TritonFolder
from serving.repository.turns import turn
from serving.repository.versions import add_version, versions
from tests.serving.conftest import twin_of

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)

PLANS = {
    "gpu": ServingPlan(backend="onnxruntime", instances=3, max_queue=77, queue_timeout_ms=1_500),
    "tensorrt": ServingPlan(backend="onnxruntime", tensorrt=True, queue_delay_us=250),
    "cpu": ServingPlan(backend="python", run_threads=2, versions=5, max_batch=32),
}

TYPES = {
    onnx.TensorProto.INT64: model_config_pb2.TYPE_INT64,
    onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32,
}


def parsed(repository: Path, name: str = "clickpath") -> model_config_pb2.ModelConfig:
    text = (repository / name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def declared(values: object) -> dict[str, tuple[int, list[int]]]:
    """Types and shapes without the batch of a graph's own inputs or outputs."""
    tensors = {}
    for value in values:  # type: ignore[attr-defined]
        of = value.type.tensor_type
        dims = [dim.dim_value or -1 for dim in of.shape.dim]
        assert dims[0] == -1
        tensors[value.name] = (TYPES[of.elem_type], dims[1:])
    return tensors


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("every_head", [False, True], ids=["quick", "all heads"])
def test_the_configuration_has_the_tensors_that_the_graph_declares(
    tmp_path: Path, plan: ServingPlan, every_head: bool
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shipped, card = shipped_model(), read_card(shipped_model())
    if every_head:  # with heads for tokens, which have a second dimension and hashes
        card = card.model_copy(update={"heads": card.all_heads, "sha256": card.all_heads_sha256})
    graph = (shipped / ("heads.onnx" if every_head else MODEL_FILE)).read_bytes()
    (model / MODEL_FILE).write_bytes(graph)
    write_card(card, model)

    version = add_version(tmp_path / "repository", model, plan)
    config = parsed(tmp_path / "repository")

    real = onnx.load_from_string((version.directory / MODEL_FILE).read_bytes()).graph
    assert {i.name: (i.data_type, list(i.dims)) for i in config.input} == declared(real.input)
    outputs = declared(real.output)
    assert {o.name for o in config.output} == set(outputs)
    for output in config.output:
        data_type, shape = outputs[output.name]
        assert output.data_type == data_type
        assert list(output.dims) == (shape or [1])
        assert output.HasField("reshape") == (not shape)
        assert list(output.reshape.shape) == []


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_configuration_says_how_the_plan_serves(
    tmp_path: Path, model_directory: Path, plan: ServingPlan, encoder: Encoder
) -> None:
    add_version(tmp_path / "repository", model_directory, plan)
    config = parsed(tmp_path / "repository")

    assert (config.name, config.backend) == ("clickpath", plan.backend)
    assert config.max_batch_size == plan.max_batch
    assert list(config.version_policy.specific.versions) == [1]
    (group,) = config.instance_group
    kind = group.KIND_GPU if plan.backend == "onnxruntime" else group.KIND_CPU
    assert (group.kind, group.count) == (kind, plan.instances)
    batching = config.dynamic_batching
    assert batching.max_queue_delay_microseconds == plan.queue_delay_us
    assert list(batching.preferred_batch_size) == []
    policy = batching.default_queue_policy
    assert policy.max_queue_size == plan.max_queue
    assert policy.timeout_action == policy.REJECT
    assert policy.default_timeout_microseconds == plan.queue_timeout_ms * 1_000
    assert policy.allow_timeout_override
    lengths = [list(warm_up.inputs["paths"].dims)[1] for warm_up in config.model_warmup]
    assert lengths == list(time_buckets(encoder.window.steps))
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [(a.name, a.parameters["precision_mode"]) for a in accelerators] == (
        [("tensorrt", "FP16")] if plan.tensorrt else []
    )
    assert (config.parameters["threads"].string_value == "2") == (plan.backend == "python")


def test_both_backends_have_the_same_tensors(tmp_path: Path, model_directory: Path) -> None:
    for name, plan in PLANS.items():
        add_version(tmp_path / name, model_directory, plan)
    gpu, tensorrt, cpu = (parsed(tmp_path / name) for name in PLANS)

    assert gpu.input == cpu.input == tensorrt.input
    assert gpu.output == cpu.output == tensorrt.output


def test_a_version_holds_the_model_its_card_and_a_signed_manifest(tmp_path: Path) -> None:
    version = add_version(tmp_path, shipped_model(), PLANS["cpu"], private_key=KEY)

    assert {path.name for path in version.directory.iterdir()} == {
        *("model.onnx", "heads.onnx", "card.json", "calibration.json", "items.bin", "model.py"),
        *("step-0.onnx", "step-1.onnx", "step-2.onnx"),
        *("manifest.json", "manifest.sig", "fingerprints.sig"),
    }
    check_manifest(version.directory, KEY.public_key())
    assert {path.name for path in tmp_path.iterdir()} == {"clickpath", ".lock"}


async def test_a_version_is_a_model_directory_like_any_other(
    tmp_path: Path, encoder: Encoder
) -> None:
    version = add_version(tmp_path, shipped_model(), PLANS["cpu"])

    predictor = EmbeddedPredictor(version.directory, encoder)

    assert predictor.digest == read_card(shipped_model()).digest
    await predictor.close()


def test_each_version_has_its_fingerprints_in_the_configuration(
    tmp_path: Path, model_directory: Path, encoder: Encoder
) -> None:
    repository = tmp_path / "repository"
    add_version(repository, model_directory, PLANS["cpu"])
    card = read_card(model_directory)
    changed = card.model_copy(update={"encoder": "0" * 16})
    write_card(changed, model_directory)
    add_version(repository, model_directory, PLANS["cpu"])

    parameters = parsed(repository).parameters
    first = Fingerprints.read(parameters[f"{PARAMETER}1"].string_value, "first")
    second = Fingerprints.read(parameters[f"{PARAMETER}2"].string_value, "second")

    assert first == Fingerprints.of(card)
    first.check(encoder, "first")
    with pytest.raises(ModelMismatch, match="second was trained with encoder 0000000000000000"):
        second.check(encoder, "second")
    assert [version.number for version in versions(repository)] == [1, 2]


def loaded(repository: Path) -> list[int]:
    return list(parsed(repository).version_policy.specific.versions)


def test_the_first_version_and_the_newest_are_loaded_until_something_is_promoted(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    folder = TritonFolder(repository, "clickpath")
    plan = ServingPlan(backend="python", versions=2)
    models = [model_directory]
    for n in range(3):
        models.append(twin_of(model_directory, tmp_path / f"twin {n}", f"twin {n}"))
    digests = [add_version(repository, model, plan).card.digest for model in models]

    assert loaded(repository) == [1, 3, 4]
    assert folder.first() == digests[0]
    assert folder.first(3) == digests[2]

    folder.keep([digests[0], digests[2]])
    assert loaded(repository) == [1, 3]
    add_version(repository, twin_of(model_directory, tmp_path / "fifth", "fifth"), plan)
    assert loaded(repository) == [1, 3]
    assert parsed(repository).parameters.keys() >= {f"{PARAMETER}{n}" for n in range(1, 6)}

    folder.keep([digests[2], digests[3], digests[0]])
    assert loaded(repository) == [1, 3, 4]
    assert folder.first() == digests[0]


def test_to_keep_versions_changes_nothing_else_in_the_configuration(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    version = add_version(repository, model_directory, PLANS["cpu"], private_key=KEY)
    config = repository / "clickpath" / "config.pbtxt"
    by_hand = config.read_text().replace("count: 2", "count: 7")
    config.write_text(by_hand)
    before = parsed(repository)

    TritonFolder(repository, "clickpath").keep([version.card.digest])

    after = parsed(repository)
    assert after.parameters.pop("clickpath.kept").string_value == "1"
    assert after == before
    written = config.stat().st_mtime_ns
    TritonFolder(repository, "clickpath").keep([version.card.digest])
    assert config.stat().st_mtime_ns == written  # Triton would load everything anew


def test_a_configuration_by_another_hand_is_left_alone(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    version = add_version(repository, model_directory, PLANS["cpu"])
    config = repository / "clickpath" / "config.pbtxt"
    text = config.read_text().replace("version_policy {", "version_policy\n{")
    config.write_text(text)

    with pytest.raises(ModelMismatch, match=r"config\.pbtxt: it has a version_policy"):
        TritonFolder(repository, "clickpath").keep([version.card.digest])
    assert config.read_text() == text


def test_the_first_of_equal_models_stands_for_all_and_a_broken_one_hides_no_other(
    tmp_path: Path, model_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = tmp_path / "repository"
    folder = TritonFolder(repository, "clickpath")
    with pytest.raises(UsageError, match="there is no version of a model clickpath"):
        folder.first()
    with pytest.raises(UsageError, match="no Triton repository with a model clickpath"):
        folder.versions()
    for model in (model_directory, model_directory, twin_of(model_directory, tmp_path / "twin")):
        digest = add_version(repository, model, PLANS["cpu"]).card.digest
    (repository / "clickpath" / "2" / "card.json").unlink()

    assert [folder.directory(each).name for each in folder.versions()] == ["1", "3"]
    assert folder.checked(digest)[1].digest == digest
    assert "no model card" in caplog.text
    with pytest.raises(UsageError, match="there is no version 2 of a model clickpath"):
        folder.first(2)


def test_versions_that_are_written_at_the_same_time_miss_nothing_of_each_other(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    first = add_version(repository, model_directory, PLANS["cpu"])
    kept = [first.card.digest]
    keep = partial(TritonFolder(repository, "clickpath").keep, kept)
    add = partial(add_version, repository, model_directory, PLANS["cpu"])
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(each) for each in (add, add, keep, add, add, keep, add, add)]
    assert [each.exception() for each in done] == [None] * 8

    numbers = [1, 2, 3, 4, 5, 6, 7]
    assert [version.number for version in versions(repository)] == numbers
    config = parsed(repository)
    assert {f"{PARAMETER}{n}" for n in numbers} <= config.parameters.keys()
    assert config.parameters["clickpath.kept"].string_value == "1"
    assert loaded(repository) == [1]


def test_who_waits_too_long_for_another_writer_says_so_and_a_killed_writer_holds_up_nobody(
    tmp_path: Path, model_directory: Path
) -> None:
    code = "import pathlib, sys, time; from serving.repository.turns import turn\n"
    code += "with turn(pathlib.Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"mine\n"
        said = r"another program writes to .* it holds .*\.lock"
        with pytest.raises(UsageError, match=said), turn(tmp_path, patience_s=0.1):
            pass
        writer.kill()
    assert add_version(tmp_path, model_directory, PLANS["cpu"]).number == 1


def test_a_model_with_other_outputs_is_refused_where_versions_are(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    add_version(repository, model_directory, PLANS["cpu"])

    with pytest.raises(ModelMismatch, match=r"leave.* give it another name"):
        add_version(repository, shipped_model(), PLANS["cpu"])
    with pytest.raises(ModelMismatch, match="another backend than onnxruntime"):
        add_version(repository, model_directory, PLANS["gpu"])
    assert add_version(repository, shipped_model(), PLANS["cpu"], name="other").number == 1


def test_a_version_that_was_changed_stops_the_next_one(
    tmp_path: Path, model_directory: Path
) -> None:
    repository = tmp_path / "repository"
    version = add_version(repository, model_directory, PLANS["cpu"])
    with (version.directory / "model.py").open("a") as model:
        model.write("# changed\n")

    with pytest.raises(ModelMismatch, match=r"model\.py has digest"):
        add_version(repository, model_directory, PLANS["cpu"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instances": 0}, "instances is 0, the least is 1"),
        ({"max_queue": 0}, "max_queue is 0, the least is 1"),
        ({"queue_timeout_ms": 0}, "queue_timeout_ms is 0"),
        ({"max_batch": 1}, "max_batch is 1, the least is 2"),
        ({"backend": "torch"}, "backend is 'torch', known are onnxruntime, python"),
        ({"backend": "python", "tensorrt": True}, "onnxruntime backend only"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServingPlan(**values)  # type: ignore[arg-type]


def test_a_name_that_leaves_the_repository_is_refused(
    tmp_path: Path, model_directory: Path
) -> None:
    for name in ("", "../other", "a/b", "a b"):
        with pytest.raises(UsageError, match="cannot be the name of a model"):
            add_version(tmp_path / "repository", model_directory, PLANS["cpu"], name=name)


def test_the_command_adds_a_version_and_says_which(
    tmp_path: Path, model_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "repository"
    argv = ["triton", "repository", str(repository), "--backend", "python", "--json"]

    assert main([*argv, "--model", str(model_directory)]) == 0

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {
        "directory": str(repository / "clickpath" / "1"),
        "name": "clickpath",
        "version": 1,
        "digest": read_card(model_directory).digest,
    }


def test_the_command_answers_a_wrong_model_with_one_sentence(
    tmp_path: Path, model_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model_directory / CARD_FILE).unlink()

    assert main(["triton", "repository", str(tmp_path / "r"), "--model", str(model_directory)]) == 1

    assert capsys.readouterr().err.startswith("clickpath: there is no model card to read at ")
    assert not (tmp_path / "r").exists()
