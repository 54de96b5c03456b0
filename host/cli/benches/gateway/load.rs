//! Callers: so many at a time, each sending the next request when the last is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::process::Server;

#[derive(Clone, Copy)]
pub enum Prompt {
    Small,
    Large,
}

impl Prompt {
    fn body(self, stream: Option<usize>) -> Bytes {
        let bytes = match self {
            Self::Small => 1_000,
            Self::Large => 100_000,
        };
        let text = "The quick brown fox said \\\"hi\\\" and left. ".repeat(bytes / 42);
        let stream = match stream {
            Some(chunks) => format!(r#","stream":true,"user":"{chunks}""#),
            None => String::new(),
        };
        format!(
            r#"{{"model":"bench","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}],"temperature":0.2{stream}}}"#
        )
        .into()
    }
}

pub struct Load {
    body: Bytes,
    callers: usize,
    requests: usize,
}

pub struct Done {
    pub took: Duration,
    pub median: Duration,
}

impl Load {
    pub fn plain(prompt: Prompt, callers: usize, requests: usize) -> Self {
        Self { body: prompt.body(None), callers, requests }
    }

    /// `streams` at once, each of so many chunks.
    pub fn streamed(chunks: usize, streams: usize) -> Self {
        Self { body: Prompt::Small.body(Some(chunks)), callers: streams, requests: streams }
    }

    pub async fn run(self, server: &Server) -> Done {
        let client = reqwest::Client::new();
        let left = Arc::new(AtomicUsize::new(self.requests));
        let began = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..self.callers {
            let (client, left, body) = (client.clone(), Arc::clone(&left), self.body.clone());
            let url = format!("http://{}/v1/chat/completions", server.address);
            callers.spawn(async move {
                let mut latencies = Vec::new();
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let sent = Instant::now();
                    let answer = post(&client, &url, body.clone()).await;
                    assert!(answer.status().is_success(), "{}", answer.status());
                    answer.bytes().await.unwrap();
                    latencies.push(sent.elapsed());
                }
                latencies
            });
        }
        let mut latencies: Vec<Duration> = callers.join_all().await.concat();
        latencies.sort();
        Done { took: began.elapsed(), median: latencies[latencies.len() / 2] }
    }
}

async fn post(client: &reqwest::Client, url: &str, body: Bytes) -> reqwest::Response {
    let request = client.post(url).header("content-type", "application/json").body(body);
    request.send().await.unwrap()
}

/// Opens streams that go on until they are dropped, each past its first chunk.
pub async fn hold_streams(server: &Server, streams: usize) -> Vec<reqwest::Response> {
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/chat/completions", server.address);
    let mut held = Vec::with_capacity(streams);
    for _ in 0..streams {
        let body = Prompt::Small.body(Some(usize::MAX));
        let mut answer = post(&client, &url, body).await;
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.chunk().await.unwrap();
        held.push(answer);
    }
    held
}
