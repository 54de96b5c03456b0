//! The vendor that everything talks to, and the plain forwarder that is the measure.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, extract::State, response::Response, routing::post};
use bytes::Bytes;
use futures_util::StreamExt;

/// How far apart a stream's chunks are, so that each arrives alone.
const PACE: Duration = Duration::from_millis(2);

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"bench-2026","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer of some twenty words, which is about what a plain question to a model gets in return.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":24,"total_tokens":274,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_1"}"#;

fn serve(router: Router, worker_threads: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        let listener = axum::serve::ListenerExt::tap_io(listener, |io| {
            let _ = io.set_nodelay(true);
        });
        axum::serve(listener, router).await.unwrap();
    });
}

/// Answers chats in OpenAI's shape. A stream has as many chunks as `user` says.
pub fn vendor() {
    serve(Router::new().route("/v1/chat/completions", post(chat)), 1);
}

async fn chat(body: Bytes) -> Response {
    // Streams name their length at the end of the request or before the streaming options.
    let text = String::from_utf8_lossy(&body);
    let Some(at) = text.find(r#""user":""#) else {
        return Response::builder()
            .header("content-type", "application/json")
            .body(Body::from(ANSWER))
            .unwrap();
    };
    let digits = text[at + 8..].split('"').next().unwrap_or_default();
    let chunks: usize = digits.parse().unwrap_or(1);
    let stream = futures_util::stream::unfold(0, move |sent| async move {
        if sent > chunks {
            return None;
        }
        if sent > 0 {
            // A held stream has had its chunk: now it waits to be dropped.
            let pace = if chunks == usize::MAX { Duration::from_secs(3600) } else { PACE };
            tokio::time::sleep(pace).await;
        }
        let event = if sent == chunks {
            concat!(
                r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"bench-2026","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
                "\n\ndata: [DONE]\n\n"
            )
        } else {
            concat!(
                r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"bench-2026","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1"}"#,
                "\n\n"
            )
        };
        Some((Ok::<_, Infallible>(Bytes::from_static(event.as_bytes())), sent + 1))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(stream))
        .unwrap()
}

/// Parses the request once, as any gateway must to know the model, and passes bytes on.
pub fn forwarder(vendor: &str) {
    let target = format!("http://{vendor}/v1/chat/completions");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    serve(
        Router::new().route("/v1/chat/completions", post(forward)).with_state((client, target)),
        1,
    );
}

async fn forward(
    State((client, target)): State<(reqwest::Client, String)>,
    body: Bytes,
) -> Response {
    let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(parsed["model"].is_string());
    let answer = client
        .post(&target)
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-canary-openai-00000000000000000000000000000000")
        .body(body)
        .send()
        .await
        .unwrap();
    let mut response = Response::builder().status(answer.status().as_u16());
    if let Some(kind) = answer.headers().get("content-type") {
        response = response.header("content-type", kind.as_bytes());
    }
    response.body(Body::from_stream(answer.bytes_stream().map(|chunk| chunk))).unwrap()
}
