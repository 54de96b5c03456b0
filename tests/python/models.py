"""The list of models, and one of them."""

from suite import case


@case
def all_models(server):
    listed = server.client.models.list()
    return {
        "ids": [model.id for model in listed],
        "objects": sorted({model.object for model in listed}),
        "created": all(isinstance(model.created, int) for model in listed),
        "owners": sorted({model.owned_by for model in listed}),
    }


@case
def the_first_model(server):
    first = next(iter(server.client.models.list()))
    return {"wanted": first.id, "got": server.client.models.retrieve(first.id).id}


@case
def an_unknown_model(server):
    return server.client.models.retrieve("no-such-model").id
