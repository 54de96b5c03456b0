"""Cases for the unchanged Anthropic SDK; suite.py says how they are run and report."""

import anthropic

import suite


class Server(suite.Server):
    def new_client(self, **options):
        return anthropic.Anthropic(**{"base_url": self.base_url, "api_key": self.api_key} | self.OPTIONS | options)

    def request(self, model, content="Hello there", **options):
        """The fields of a request; `content` is the user's message."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return {"model": self.model(model), "max_tokens": 1000, "messages": messages} | options

    def chat(self, model, content="Hello there", **options):
        return self.client.messages.create(**self.request(model, content, **options))

    def stream(self, model, content="Hello there", **options):
        return self.client.messages.stream(**self.request(model, content, **options))


if __name__ == "__main__":
    import anthropic_chat, anthropic_errors, anthropic_tools  # noqa: F401  (they register cases)

    suite.run(Server, anthropic.AnthropicError)
