"""Tiny ONNX and GGUF files for the converters' tests, written with the formats' own libraries."""

import numpy as np

WIDTH, INNER, VOCAB, POSITIONS = 8, 12, 11, 6


def bert_weights(layers=2, labels=0, seed=0):
    """{Hugging Face name: float32 array} of a random BERT; with `labels`, of a classifier."""
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings": (VOCAB, WIDTH),
        "embeddings.position_embeddings": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings": (2, WIDTH),
        "embeddings.LayerNorm": (WIDTH,),
    }
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes[f"{layer}.{part}"] = (WIDTH, WIDTH)
        shapes[f"{layer}.attention.output.dense"] = (WIDTH, WIDTH)
        shapes[f"{layer}.attention.output.LayerNorm"] = (WIDTH,)
        shapes[f"{layer}.intermediate.dense"] = (INNER, WIDTH)
        shapes[f"{layer}.output.dense"] = (WIDTH, INNER)
        shapes[f"{layer}.output.LayerNorm"] = (WIDTH,)
    if labels:
        shapes |= {"pooler.dense": (WIDTH, WIDTH), "classifier": (labels, WIDTH)}
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = random.normal(size=shape).astype(np.float32)
        if "_embeddings" not in name:
            weights[f"{name}.bias"] = random.normal(size=shape[0]).astype(np.float32)
    return weights


def quantized(weight, *, per_column=False, unsigned=False):
    """(integers, scale, zero point) with |weight - (integers - zero) * scale| <= scale / 2."""
    axis = 0 if per_column else None
    scale = (np.abs(weight).max(axis=axis) / 127).astype(np.float32)
    zero = np.full_like(scale, 128 if unsigned else 0, dtype=np.uint8 if unsigned else np.int8)
    values = np.rint(weight / scale) + zero.astype(np.float32)
    return values.astype(zero.dtype), scale, zero


class OnnxExport:
    """A graph, node by node: what exporters write round weights. It computes nothing."""

    def __init__(self, prefix=""):
        self.prefix, self.nodes, self.initializers = prefix, [], []

    def constant(self, name, value):
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind, *inputs, **attributes):
        from onnx import helper

        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantized_constant(self, name, weight, **how):
        parts = zip(("quantized", "scale", "zero_point"), quantized(weight, **how), strict=True)
        return [self.constant(f"{name}_{part}", value) for part, value in parts]

    def embedding(self, name, weight, style):
        if style == "float":
            return self.node("Gather", self.constant(name, weight), "ids")
        values, scale, zero = self.quantized_constant(name, weight, unsigned=True)
        if style == "before":
            return self.node("Gather", self.node("DequantizeLinear", values, scale, zero), "ids")
        return self.node("DequantizeLinear", self.node("Gather", values, "ids"), scale, zero)

    def linear(self, inputs, name, weight, bias, style):
        """inputs @ weight.T + bias; some styles lose the weight's name, as exporters do."""
        bias = self.constant(f"{name}.bias", bias)
        if style == "gemm":
            weight = self.constant(f"{name}.weight", weight)
            return self.node("Gemm", inputs, weight, bias, transB=1, alpha=1.0, beta=1.0)
        if style == "transposed":
            weight = self.node("Transpose", self.constant(f"{name}.weight", weight), perm=[1, 0])
            return self.node("Add", self.node("MatMul", inputs, weight), bias)
        anonymous = f"onnx::MatMul_{len(self.nodes)}"
        if style == "float":
            product = self.node("MatMul", inputs, self.constant(anonymous, weight.T.copy()))
            return self.node("Add", bias, product)
        per_column = style.endswith("per column")
        parts = self.quantized_constant(anonymous, weight.T, per_column=per_column)
        if style.startswith("dequantized"):
            product = self.node("MatMul", inputs, self.node("DequantizeLinear", *parts, axis=1))
            return self.node("Add", product, bias)
        values, scale, zero = parts
        inputs, input_scale = self.node("DynamicQuantizeLinear", inputs), "input_scale"
        product = self.node("MatMulInteger", inputs, values, "input_zero_point", zero)
        scales = self.node("Mul", input_scale, scale)
        product = self.node("Mul", self.node("Cast", product, to=1), scales)
        return self.node("Add", product, bias)

    def norm(self, inputs, name, weight, bias):
        names = [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.node("LayerNormalization", inputs, *names, epsilon=1e-12)

    def bert(self, weights, *, linear="float", embedding="float"):
        """All of a BERT's weights, each in the given style."""
        flow = "input"
        for name in dict.fromkeys(name.rpartition(".")[0] for name in weights):
            full, weight = f"{self.prefix}{name}", weights[f"{name}.weight"]
            if "_embeddings" in name:
                flow = self.embedding(f"{full}.weight", weight, embedding)
            elif weight.ndim == 1:
                flow = self.norm(flow, full, weight, weights[f"{name}.bias"])
            else:
                flow = self.linear(flow, full, weight, weights[f"{name}.bias"], linear)
        self.node("Erf", flow)
        return self

    def save(self, path):
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, "tiny", [], [], self.initializers)
        onnx.save(helper.make_model(graph), path)
        return path


HEADS, KEY_HEADS, HEAD_SIZE = 4, 2, 8


def llama_weights(vocab, *, layers=2, width=32, inner=64, tied=False, bias=False, seed=0):
    """{Hugging Face name: float32 array} of a Llama with random weights."""
    random = np.random.default_rng(seed)
    queries, keys = HEADS * HEAD_SIZE, KEY_HEADS * HEAD_SIZE
    shapes = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    if not tied:
        shapes["lm_head.weight"] = (vocab, width)
    for number in range(layers):
        layer = f"model.layers.{number}"
        linears = {
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        for part, shape in linears.items():
            shapes[f"{layer}.{part}.weight"] = shape
            if bias:
                shapes[f"{layer}.{part}.bias"] = shape[:1]
        for part in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{part}.weight"] = (width,)
    return {
        name: random.normal(size=shape, scale=0.3).astype(np.float32)
        for name, shape in shapes.items()
    }


_GGUF_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def gguf_name(name):
    part, _, kind = name.rpartition(".")
    if part.startswith("model.layers."):
        _, _, layer, part = part.split(".", 3)
        return f"blk.{layer}.{_GGUF_PARTS[part]}.{kind}"
    return f"{_GGUF_PARTS[part]}.{kind}"


def interleaved(weight, heads):
    """llama.cpp's order: rows i and i + size / 2 of a head become its rows 2 i and 2 i + 1."""
    size = len(weight) // heads
    result = np.empty_like(weight)
    for head in range(heads):
        for i in range(size // 2):
            result[head * size + 2 * i] = weight[head * size + i]
            result[head * size + 2 * i + 1] = weight[head * size + size // 2 + i]
    return result


def save_gguf(path, weights, *, kind="F32", fields=(), tensors=(), leave_out=()):
    """Writes a file as llama.cpp's converter would.

    Args:
        weights: as `llama_weights` gives them.
        kind: quantisation of the matrices; vectors stay float32.
        fields: more (key, value) pairs; a value of None leaves a default out.
        tensors: more (name, array) pairs.
        leave_out: names of weights that are not written.
    """
    import gguf

    fields = dict(fields)
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture", "llama"))
    layers = 1 + max(int(name.split(".")[2]) for name in weights if "layers" in name)
    defaults = {
        "context_length": 64,
        "embedding_length": weights["model.norm.weight"].shape[0],
        "feed_forward_length": weights["model.layers.0.mlp.up_proj.weight"].shape[0],
        "block_count": layers,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KEY_HEADS,
        "rope.dimension_count": HEAD_SIZE,
        "rope.freq_base": 5000.0,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    defaults = {f"llama.{name}": value for name, value in defaults.items()}
    for name, value in {**defaults, **fields}.items():
        _add_field(writer, name, value)
    quantization = gguf.GGMLQuantizationType[kind]
    for name, value in weights.items():
        if name in leave_out:
            continue
        if ".q_proj" in name or ".k_proj" in name:
            value = interleaved(value, HEADS if ".q_proj" in name else KEY_HEADS)
        if value.ndim == 2 and kind != "F32":
            data = gguf.quants.quantize(value, quantization)
            writer.add_tensor(gguf_name(name), data, raw_dtype=quantization)
        else:
            writer.add_tensor(gguf_name(name), value)
    for name, value in tensors:
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_field(writer, name, value):
    if isinstance(value, list):
        writer.add_array(name, value)
    elif isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif value is not None:
        writer.add_string(name, value)


def byte_level_fields(tokenizer):
    """The GGUF fields of a byte-level BPE that the tokenizers library trained."""
    import json

    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    special = [token for token in tokens if token.startswith("<|")]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": tokens.index("<|start|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|end|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|end|>"),
        "tokenizer.ggml.add_bos_token": False,
    }
