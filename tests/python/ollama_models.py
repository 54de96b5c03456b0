"""Lists of models, names, embeddings."""

from suite import case


@case
def all_models(server):
    listed = server.client.list().models
    return {
        "names": [model.model for model in listed],
        "digests": len({model.digest for model in listed}),
        "modified": all(model.modified_at is not None for model in listed),
        "details": all(model.details.family for model in listed),
    }


@case
def every_model_can_be_shown(server):
    return {model.model: server.client.show(model.model).capabilities for model in server.client.list().models}


@case
def a_model_shown(server):
    shown = server.client.show(server.model("llama3.2"))
    return {
        "architecture": shown.modelinfo["general.architecture"],
        "capabilities": shown.capabilities,
        "family": shown.details.family,
    }


@case
def an_unknown_model_shown(server):
    return server.client.show("no-such-model").modelfile


@case
def running(server):
    return [model.model for model in server.client.ps().models]


@case
def presence(server):
    """What clients ask to see whether a server is there, and which."""
    http = server.client._client
    return {
        "head": http.head("/").status_code,
        "text": http.get("/").text,
        "version": http.get("/api/version").json()["version"],
    }


def said_by(server, model):
    messages = [{"role": "user", "content": "by name"}]
    answer = server.client.chat(model=model, messages=messages)
    return {"asked": model, "model": answer.model, "text": answer.message.content,
            "served": server.head.get("x-keyward-model"), "provider": server.head.get("x-keyward-provider")}


@case
def names_with_and_without_their_tag(server):
    names = ["llama3.2", "llama3.2:latest", "ollama/llama3.2", "claude-opus-4-5:latest", "anthropic/claude-opus-4-5:latest", "gpt-4.1"]
    return [said_by(server, name) for name in names]


@case
def one_embedding(server):
    answer = server.client.embed(model=server.model("embed-model"), input="a text")
    return {"vectors": answer.embeddings, "count": answer.prompt_eval_count, "total": answer.total_duration, "model": answer.model}


@case
def several_embeddings(server):
    answer = server.client.embed(model=server.model("embed-model"), input=["a", "b", "c"], truncate=True)
    return {"vectors": answer.embeddings}


@case
def embeddings_of_fewer_dimensions(server):
    return {"vectors": server.client.embed(model=server.model("embed-model"), input="a", dimensions=2).embeddings}


@case
def the_older_embeddings(server):
    return {"vector": server.client.embeddings(model=server.model("embed-model"), prompt="a text").embedding}


@case
def an_embedding_that_fails(server):
    return server.client.embed(model=server.model("status-429"), input="a").embeddings
