"""Answers that fit a JSON schema."""

import json

import pydantic

from suite import case


class Person(pydantic.BaseModel):
    name: str
    age: int


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}


@case
def a_schema(server):
    answer = server.chat("json-schema", "Who?", response_format=SCHEMA)
    return {"answer": json.loads(answer.choices[0].message.content), "finish": answer.choices[0].finish_reason}


@case
def a_schema_streamed(server):
    stream = server.chat("json-schema", "Who?", response_format=SCHEMA, stream=True)
    return {"answer": json.loads("".join(c.choices[0].delta.content or "" for c in stream if c.choices))}


@case
def a_pydantic_class(server):
    answer = server.client.chat.completions.parse(
        model=server.model("json-schema"), messages=[{"role": "user", "content": "Who?"}], response_format=Person
    )
    person = answer.choices[0].message.parsed
    return {"name": person.name, "age": person.age, "class": type(person).__name__}


@case
def a_json_object(server):
    answer = server.chat("json-object", "Who? Answer in JSON.", response_format={"type": "json_object"})
    return {"text": answer.choices[0].message.content}
