"""Writes a language model that knows nothing, for a real server of models to answer with.

    python tiny_model.py FILE.gguf

It has Llama's architecture and some 350,000 random numbers, the same each time, so that greedy
answers are the same each time. Its words are the printable characters of ASCII, and bytes for all
others, which it never says: their rows of the last matrix are zero, and the best of a hundred
random rows is greater.
"""

import sys

import gguf
import numpy

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 96, 3, 4, 192, 256

# One text for each turn, as small servers want it. {{ and }} are Jinja's own.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary():
    """Words with their kinds. The tokenizer writes a space as U+2581."""
    kind = gguf.TokenType
    words = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    words += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    words += [("\u2581" if character == 32 else chr(character), kind.NORMAL) for character in range(32, 127)]
    return words


def main(path):
    words = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([word.encode() for word, _ in words])
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types([int(kind) for _, kind in words])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)

    random = numpy.random.default_rng(20261122)

    def matrix(rows, columns, scale=None):
        return (random.standard_normal((rows, columns)) * (scale or columns**-0.5)).astype(numpy.float32)

    ones = numpy.ones(WIDTH, dtype=numpy.float32)
    writer.add_tensor("token_embd.weight", matrix(len(words), WIDTH, 1.0))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_gate.weight", matrix(HIDDEN, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", matrix(HIDDEN, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", matrix(WIDTH, HIDDEN))
    writer.add_tensor("output_norm.weight", ones)
    head = matrix(len(words), WIDTH)
    for row, (word, kind) in enumerate(words):
        # The end of an answer is a word like any other, said a little louder: some answers have one.
        if word == "</s>":
            head[row] *= 1.5
        elif kind != gguf.TokenType.NORMAL:
            head[row] = 0
    writer.add_tensor("output.weight", head)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
