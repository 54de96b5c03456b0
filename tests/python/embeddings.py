"""Embeddings: the SDK asks for base64 unless told otherwise and decodes it itself."""

from suite import case


def embed(server, **options):
    answer = server.client.embeddings.create(model=server.model("embedder"), **options)
    return {
        "object": answer.object,
        "vectors": [entry.embedding for entry in answer.data],
        "indices": [entry.index for entry in answer.data],
        "usage": answer.usage.model_dump() if answer.usage else None,
        "model": answer.model,
    }


@case
def one_embedding(server):
    return embed(server, input="Hello")


@case
def several_embeddings(server):
    return embed(server, input=["one", "two", "three"])


@case
def embeddings_as_floats(server):
    return embed(server, input=["one", "two"], encoding_format="float")


@case
def embeddings_of_fewer_dimensions(server):
    return embed(server, input="Hello", dimensions=2)


@case
def an_embedding_that_fails(server):
    return server.client.embeddings.create(model=server.model("status-429-after-3"), input="Hello").object
