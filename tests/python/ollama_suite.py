"""Cases for the unchanged Ollama SDK; suite.py says how they are run and report."""

import ollama

import suite


class Server(suite.Server):
    OPTIONS = {"timeout": 20}  # it has no retries to turn off

    def new_client(self, kind=ollama.Client, **options):
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        options = {"host": self.base_url, "headers": headers} | self.OPTIONS | options
        if kind is ollama.Client:
            options["event_hooks"] = {"response": [self.remember]}
        return kind(**options)

    def remember(self, response):
        self.head = {"status": response.status_code} | dict(response.headers)

    def chat(self, model, content="Hello there", **options):
        """One chat; `content` is the user's message unless there are `messages`."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return self.client.chat(model=self.model(model), messages=messages, **options)

    def generate(self, model, prompt="Hello there", **options):
        return self.client.generate(model=self.model(model), prompt=prompt, **options)


if __name__ == "__main__":
    import ollama_chat, ollama_errors, ollama_models, ollama_tools  # noqa: F401  (they register cases)

    suite.run(Server, ollama.ResponseError)
