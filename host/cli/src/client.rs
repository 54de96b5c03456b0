//! How commands reach a gateway: the running one if there is one, else one made for the moment.
//!
//! A running gateway owns the data folder and answers on a socket in it that only its user can
//! open. Without one, the same router is asked inside this process. So every command has one
//! implementation, on the gateway's side.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// An answer whose body may still be arriving.
pub type Answer = http::Response<UnsyncBoxBody<Bytes, Error>>;

/// A gateway to ask.
pub enum Client {
    Running(std::path::PathBuf),
    /// Boxed: a router is large, a path is not.
    Here(Box<axum::Router>),
}

impl Client {
    /// The gateway that runs on this data folder, if one does.
    pub async fn running(data: &Path) -> Option<Self> {
        let socket = keyward_server::control::socket_path(data);
        tokio::net::UnixStream::connect(&socket).await.ok().map(|_| Self::Running(socket))
    }

    /// Sends a request and returns the answer's head; the body follows.
    pub async fn send(
        &self,
        method: http::Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "localhost");
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|json| Bytes::from(json.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body))?;
        match self {
            Self::Here(router) => {
                let router = (**router).clone();
                let request = request.map(axum::body::Body::new);
                let answer = router.oneshot(request).await.unwrap_or_else(|never| match never {});
                Ok(answer.map(|body| body.map_err(Error::from).boxed_unsync()))
            }
            Self::Running(socket) => {
                let stream = tokio::net::UnixStream::connect(socket)
                    .await
                    .with_context(|| format!("can't reach the gateway at {}", socket.display()))?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                let answer = sender.send_request(request).await?;
                Ok(answer.map(|body| body.map_err(Error::from).boxed_unsync()))
            }
        }
    }

    /// Sends a request and reads a JSON answer.
    ///
    /// # Errors
    /// If the gateway can't be reached or answers with an error: its message is the error's.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: http::Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<T> {
        let answer = self.send(method, path, body).await?;
        let bytes = checked(answer)
            .await?
            .into_body()
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?;
        Ok(serde_json::from_slice(&bytes.to_bytes())?)
    }
}

/// The answer, if it is a success.
///
/// # Errors
/// With the gateway's own message otherwise.
pub async fn checked(answer: Answer) -> anyhow::Result<Answer> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let bytes = answer.into_body().collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let message = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|v| Some(v.get("error")?.get("message")?.as_str()?.to_owned()));
    match message {
        Some(message) => bail!(message),
        None => bail!("the gateway answered {status}"),
    }
}
