"""Cases for the unchanged OpenAI SDK; suite.py says how they are run and report.

The cases of the Responses API are in a suite of their own, `responses.py`, run the same way.
"""

import openai

import suite


class Server(suite.Server):
    def new_client(self, **options):
        return openai.OpenAI(**{"base_url": self.base_url, "api_key": self.api_key} | self.OPTIONS | options)

    def chat(self, model, content="Hello there", **options):
        """One chat; `content` is the user's message or the whole list of messages."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return self.client.chat.completions.create(model=self.model(model), messages=messages, **options)


if __name__ == "__main__":
    import chat, embeddings, errors, models, structured, tools  # noqa: F401  (they register cases)

    suite.run(Server, openai.OpenAIError)
