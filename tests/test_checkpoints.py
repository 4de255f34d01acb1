"""What a checkpoint lacks, by the names of its files alone: as the frameworks' presets have it."""

from __future__ import annotations

import pytest

from artifactd.checkpoints import Checkpoint, Rule, wholes
from artifactd.config.presets import PRESETS
from artifactd.layout import Layout

HUGGINGFACE, LIGHTNING, KERAS = (Rule(PRESETS[name].checkpoints[0]) for name in ("huggingface", "lightning", "keras"))
SHARDS = ("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors")
INDEX = "model.safetensors.index.json"
VARIABLES = ("variables/variables.index", "variables/variables.data-00000-of-00001")


def lacks(rule: Rule, *names: str) -> str:
    return rule.lacks(name.encode() for name in names)


@pytest.mark.parametrize(
    "names",
    [
        ("config.json", "model.safetensors"),
        ("pytorch_model.bin",),
        ("adapter_model.safetensors", "adapter_config.json"),
        ("second/adapter_model.bin",),
        ("pytorch_model_fsdp.bin",),
        ("pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp"),
        ("global_step500/mp_rank_00_model_states.pt", "latest"),
        (*SHARDS, INDEX),
        ("pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"),
    ],
)
def test_transformers_saves_weights_in_many_ways(names: tuple[str, ...]) -> None:
    assert lacks(HUGGINGFACE, *names) == ""


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), "model*.safetensors"),
        (("config.json", "optimizer.pt", "trainer_state.json"), "model*.safetensors"),
        ((INDEX,), "model*.safetensors"),
        ((*SHARDS[:2], INDEX), "1 of the 3 model-*-of-00003.safetensors"),
        ((SHARDS[2], INDEX), "2 of the 3 model-*-of-00003.safetensors"),
        (SHARDS, INDEX),
        (SHARDS[:2], f"1 of the 3 model-*-of-00003.safetensors, {INDEX}"),
        (("xmodel.safetensors.index.json", "a/global_step"), "model*.safetensors"),
    ],
)
def test_what_a_checkpoint_of_transformers_lacks(names: tuple[str, ...], missing: str) -> None:
    assert lacks(HUGGINGFACE, *names) == missing


def test_a_saved_model_needs_its_graph_and_all_its_variables() -> None:
    assert lacks(KERAS, "saved_model.pb", *VARIABLES) == ""
    assert lacks(KERAS, "saved_model.pb", VARIABLES[0]) == "/variables/variables.data-*"
    assert lacks(KERAS, *VARIABLES, "deeper/saved_model.pb") == "/saved_model.pb"
    two = ("variables/variables.data-00001-of-00002", VARIABLES[0], "saved_model.pb")
    assert lacks(KERAS, *two) == "1 of the 2 variables/variables.data-*-of-00002"


def test_of_a_saved_models_folder_only_its_own_files_are_waited_for() -> None:
    for name in ("saved_model.pb", "keras_metadata.pb", *VARIABLES, "assets/words.txt", "assets.extra/a"):
        assert KERAS.belongs(name.encode()), name
    for name in ("training.csv", "deeper/saved_model.pb", "notes/variables/x", "checkpoint-1/model.safetensors"):
        assert not KERAS.belongs(name.encode()), name
    assert HUGGINGFACE.belongs(b"any/thing\xff")


def test_a_sharded_checkpoint_of_lightning_needs_what_torch_wrote() -> None:
    assert lacks(LIGHTNING, ".metadata", "__0_0.distcp", "__1_0.distcp") == ""
    assert lacks(LIGHTNING, "__0_0.distcp") == ".metadata"
    assert lacks(LIGHTNING, ".metadata") == "*.distcp"


@pytest.mark.parametrize(
    ("rule", "inner", "is_marker"),
    [
        (HUGGINGFACE, b"checkpoint-5/trainer_state.json", True),
        (HUGGINGFACE, b"out/checkpoint-5/trainer_state.json", True),
        (HUGGINGFACE, b"trainer_state.json", False),  # of the training as a whole
        (HUGGINGFACE, b"checkpoint-5/deeper/trainer_state.json", False),
        (LIGHTNING, b"lightning_logs/version_0/checkpoints/epoch=1-step=2.ckpt/meta.pt", True),
        (LIGHTNING, b"lightning_logs/meta.pt", False),
        (KERAS, b"fingerprint.pb", True),
        (KERAS, b"export/1/fingerprint.pb", True),
    ],
)
def test_which_files_are_markers(rule: Rule, inner: bytes, is_marker: bool) -> None:
    layout = Layout(
        "{experiment}/{run}", constants={}, include=["**"], exclude=[], live=[], routes=[],
        checkpoints=[rule.checkpoint],
    )  # fmt: skip
    found = layout.checkpoint(b"e/r/" + inner)
    assert (found is not None and found.checkpoint == rule.checkpoint) is is_marker
    assert layout.checkpoint(b"e") is None


def test_the_rules_digest_knows_of_checkpoints() -> None:
    def fingerprint(*checkpoints: Checkpoint) -> str:
        return Layout(
            ".", constants={"experiment": "e", "run": "r"}, include=["**"], exclude=[], live=[], routes=[],
            checkpoints=checkpoints,
        ).fingerprint  # fmt: skip

    one, other = Checkpoint("a/m", (("x",),)), Checkpoint("a/m", (("y",),))
    assert len({fingerprint(), fingerprint(one), fingerprint(other), fingerprint(one, other)}) == 4


def test_the_checkpoints_among_what_is_stored() -> None:
    rule = Rule(Checkpoint("**/done", (("weights",),)))

    def rule_of(path: bytes) -> Rule | None:
        return rule if path.endswith(b"done") else None

    stored = [b"r/b/weights", b"r/b/done", b"r/a/done", b"r/a-/weights", b"r/a0/weights", b"r/c/weights", b"top"]
    assert list(wholes(stored, rule_of)) == [(b"r/a", False), (b"r/b", True)]
    assert list(wholes([b"done", b"deep/weights"], rule_of)) == [(b"", True)]
