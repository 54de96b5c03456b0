//! A plain HTTP caller of the gateway, for what an SDK hides: headers, bytes, leaving early.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// A caller with a token of its own.
#[derive(Clone, Debug)]
pub struct Caller {
    url: String,
    token: Option<String>,
    client: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The text of a chat's answer.
    ///
    /// # Panics
    /// If the chat failed.
    pub fn said(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The message of an error in OpenAI's shape.
    pub fn complaint(&self) -> String {
        assert_ne!(self.status, 200, "{}", self.text());
        let body = self.json();
        body["error"]["message"].as_str().unwrap_or_else(|| panic!("no message: {body}")).to_owned()
    }

    /// Everything a caller sees, to search in.
    pub fn everything(&self) -> Vec<u8> {
        let mut all = format!("{:?}\n", self.headers).into_bytes();
        all.extend_from_slice(&self.body);
        all
    }
}

impl Caller {
    pub fn new(url: &str, token: Option<&str>) -> Self {
        // Only loopback and plain HTTP are spoken here, but the client insists on a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { url: url.to_owned(), token: token.map(str::to_owned), client }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    /// Like [`Self::get`] for when nobody may listen yet.
    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        finish(self.request(reqwest::Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    /// Like [`Self::post`] for when the gateway may be gone.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let request = self.request(reqwest::Method::POST, path);
        finish(request.header("content-type", "application/json").body(body.to_string())).await
    }

    pub async fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.request(reqwest::Method::POST, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        finish(request.body(body)).await.unwrap()
    }

    pub async fn chat(&self, model: &str, prompt: &str) -> Answer {
        self.post("/v1/chat/completions", &chat(model, prompt)).await
    }

    /// Begins a streamed chat. Dropping the stream leaves.
    pub async fn stream(&self, model: &str, prompt: &str) -> EventStream {
        let mut body = chat(model, prompt);
        body["stream"] = json!(true);
        self.stream_of(&body).await
    }

    /// Begins to watch server-sent events.
    pub async fn events(&self, path: &str) -> EventStream {
        stream(self.request(reqwest::Method::GET, path)).await
    }

    pub async fn stream_of(&self, body: &Value) -> EventStream {
        let request = self
            .request(reqwest::Method::POST, "/v1/chat/completions")
            .header("content-type", "application/json")
            .body(body.to_string());
        stream(request).await
    }
}

async fn finish(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await?,
    })
}

/// The simplest chat request.
pub fn chat(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": prompt }] })
}

type Chunks = dyn futures_util::Stream<Item = Result<Bytes, reqwest::Error>> + Send;

async fn stream(request: reqwest::RequestBuilder) -> EventStream {
    let response = request.send().await.unwrap();
    EventStream {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        bytes: Box::pin(response.bytes_stream()),
        unread: Vec::new(),
        raw: Vec::new(),
    }
}

/// A streamed answer as it comes.
pub struct EventStream {
    pub status: u16,
    pub headers: http::HeaderMap,
    bytes: std::pin::Pin<Box<Chunks>>,
    unread: Vec<u8>,
    /// Everything so far, as it came.
    pub raw: Vec<u8>,
}

/// A whole streamed answer.
#[derive(Debug, Default)]
pub struct Streamed {
    pub text: String,
    pub finish: Vec<String>,
    pub errors: Vec<Value>,
    pub usage: Option<Value>,
    /// The number of `[DONE]` marks.
    pub ends: usize,
    /// True if the body itself ended in order.
    pub complete: bool,
}

impl EventStream {
    /// The data of the next event; `None` at the end of the body.
    ///
    /// # Panics
    /// If the body breaks off.
    pub async fn next(&mut self) -> Option<String> {
        self.try_next().await.unwrap()
    }

    pub async fn try_next(&mut self) -> Result<Option<String>, reqwest::Error> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..at + 2).collect();
                let event = String::from_utf8(event).expect("an event is UTF-8");
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                match data {
                    Some(data) => return Ok(Some(data.to_owned())),
                    None => continue,
                }
            }
            match self.bytes.next().await {
                Some(bytes) => {
                    let bytes = bytes?;
                    self.raw.extend_from_slice(&bytes);
                    self.unread.extend_from_slice(&bytes);
                }
                None => return Ok(None),
            }
        }
    }

    /// Reads until an event is as wanted.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        while let Some(data) = self.next().await {
            let event: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}"));
            if wanted(&event) {
                return event;
            }
        }
        panic!("the stream ended before");
    }

    /// Reads until some text has come.
    pub async fn first_text(&mut self) -> String {
        while let Some(data) = self.next().await {
            let event: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}"));
            assert!(event["error"].is_null(), "{event}");
            if let Some(text) = event["choices"][0]["delta"]["content"].as_str()
                && !text.is_empty()
            {
                return text.to_owned();
            }
        }
        panic!("the stream ended without text");
    }

    /// Reads to the end.
    pub async fn collect(mut self) -> Streamed {
        let mut all = Streamed::default();
        loop {
            let data = match self.try_next().await {
                Ok(Some(data)) => data,
                Ok(None) => {
                    all.complete = true;
                    return all;
                }
                Err(_) => return all,
            };
            if data == "[DONE]" {
                all.ends += 1;
                continue;
            }
            let event: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}"));
            if !event["error"].is_null() {
                all.errors.push(event["error"].clone());
            }
            if event["usage"].is_object() {
                all.usage = Some(event["usage"].clone());
            }
            for choice in event["choices"].as_array().into_iter().flatten() {
                all.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
                all.finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
            }
        }
    }
}
