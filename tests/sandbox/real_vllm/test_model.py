import json

from sandbox.real_vllm import model


def test_every_byte_is_a_token_of_its_own(tmp_path):
    folder = model.write(tmp_path / "model")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == len(set(vocabulary.values())) == 256 + 3
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == len(vocabulary)
    assert {"a", "Z", "Ġ"} <= set(vocabulary), "a space is written Ġ by byte-level tokenizers"


def test_the_model_is_as_long_and_as_wide_as_told(tmp_path):
    folder = model.write(tmp_path, model.Size(hidden=512, layers=8, context=8192))
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["max_position_embeddings"]) == (512, 8, 8192)
    assert config["num_attention_heads"] * config["head_dim"] == 512
