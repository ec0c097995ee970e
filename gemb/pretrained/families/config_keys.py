"""The keys of config.json that transformers reads for every family, and what gemb makes of them.

Each family adds those of its own. A key that no table knows is named in a warning, so a key is
listed as `ANY` only if transformers computes the same vectors whatever it holds.
"""

from gemb.pretrained.keys import ANY, Rule, one_of, only, whole

# Read elsewhere: the family, the pooler of a folder without modules.json.
_READ = {"model_type": ANY, "architectures": ANY}

# gemb computes in float32; another type only rounds.
_PRECISION = one_of("float32", "float16", "bfloat16", "float64", default=None).or_null()
_ROUNDING = {"dtype": _PRECISION, "torch_dtype": _PRECISION}

# They change weights or layers: gemb computes none of them.
_REFUSED = {
    "quantization_config": only(None),
    "compression_config": only(None),
    "transformers_weights": only(None),
    "per_layer_config": only(None, {}),
    "pruned_heads": only(None, {}),
    "is_decoder": only(False),
    "add_cross_attention": only(False),
    "use_bidirectional_attention": only(False, None),
}

_TRAINING = (
    "attention_dropout", "attention_probs_dropout_prob", "classifier_dropout", "dropout",
    "gradient_checkpointing", "hidden_dropout_prob", "initializer_factor", "initializer_range",
    "layerdrop", "tie_encoder_decoder", "tie_word_embeddings", "use_cache",
)  # fmt: skip
_HEADS = (
    "cross_attention_hidden_size", "finetuning_task", "id2label", "label2id", "num_labels",
    "problem_type", "task_specific_params", "tie_last_hidden_states",
)  # fmt: skip
_OUTPUTS = (
    "chunk_size_feed_forward", "is_encoder_decoder", "output_attentions", "output_hidden_states",
    "return_dict", "use_return_dict",
)  # fmt: skip
_LOADING = (
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_commit_hash", "_experts_implementation_internal", "_name_or_path", "attn_implementation",
    "auto_map", "base_model_tp_plan", "custom_pipelines", "experts_implementation", "name_or_path",
    "pretraining_tp", "sentence_transformers", "tf_legacy_loss", "tokenizer_class", "torchscript",
    "transformers_version", "transformers.js_config", "unsloth_fixed", "unsloth_version",
    "use_bfloat16",
)  # fmt: skip
_TOKENS = (
    "bos_token_id", "cls_token_id", "decoder_start_token_id", "eos_token_id", "mask_token_id",
    "pad_token_id", "sep_token_id", "unk_token_id",
)  # fmt: skip
_GENERATION = (
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens", "min_length",
    "min_new_tokens", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_scores", "prefix", "remove_invalid_values",
    "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "temperature", "top_k",
    "top_p", "typical_p",
)  # fmt: skip
_SERVERS = ("is_matryoshka", "matryoshka_dimensions")  # which nested widths a server may offer
HARMLESS = dict.fromkeys(
    (*_TRAINING, *_HEADS, *_OUTPUTS, *_LOADING, *_TOKENS, *_GENERATION, *_SERVERS), ANY
)
COMMON: dict[str, Rule] = _READ | _ROUNDING | _REFUSED | HARMLESS

# The sizes of a transformer, in the families that give them these names.
SIZES = {
    "vocab_size": whole(),
    "max_position_embeddings": whole(),
    "num_hidden_layers": whole(),
    "hidden_size": whole(),
    "num_attention_heads": whole(),
    "intermediate_size": whole(),
}
