use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use serde_json::Value;

use axum::{body::Body, extract::Path, routing::post};
use http::HeaderMap;

use super::*;
use crate::access::{Access, Token};

/// Routes like the surface's, without a gateway behind them.
fn api(access: Access) -> Router {
    let access = Arc::new(access);
    let who =
        |axum::Extension(call): axum::Extension<Call>| async move { call.caller.name.to_string() };
    let id = |Path(id): Path<String>| async move { id };
    let routes =
        Router::new().route("/v1/chat/completions", post(who)).route("/v1/models/{*id}", get(id));
    guarded(routes, Arc::new(move || access.clone()))
}

async fn ask(
    api: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, String) {
    use tower::ServiceExt as _;

    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    request.extensions_mut().insert(Peer(peer));
    let response = api.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

const LOCAL: &[(&str, &str)] = &[("host", "localhost")];

#[tokio::test]
async fn what_doesnt_exist_is_told_in_openais_shape() {
    let api = api(Access::default());
    let (status, _, body) = ask(&api, "GET", "/v1/none", LOCAL).await;
    assert_eq!(status, 404);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["message"], "Invalid URL (GET /v1/none).");
    assert_eq!(body["error"]["type"], "invalid_request_error");

    let (status, headers, body) = ask(&api, "GET", "/v1/chat/completions", LOCAL).await;
    assert_eq!(status, 405);
    assert_eq!(headers["allow"], "POST");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["code"], "method_not_supported");
}

#[tokio::test]
async fn model_ids_may_hold_slashes() {
    let api = api(Access::default());
    for path in ["/v1/models/openai/gpt-5", "/v1/models/openai%2Fgpt-5"] {
        let (status, _, body) = ask(&api, "GET", path, LOCAL).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "openai/gpt-5"));
    }
}

#[tokio::test]
async fn each_dialect_has_errors_of_its_own_shape_on_its_paths() {
    let api = api(Access::default());
    let (status, _, body) = ask(&api, "GET", "/api/none", LOCAL).await;
    assert_eq!(status, 404);
    assert_eq!(body, r#"{"error":"Invalid URL (GET /api/none)."}"#);
    let (status, _, body) = ask(&api, "GET", "/api/tags", &[("host", "evil.example")]).await;
    assert_eq!(status, 403);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["error"].is_string(), "{body}");
}

#[tokio::test]
async fn only_the_health_check_needs_no_access() {
    let tokens = vec![Token::new("ann", "secret")];
    let api = api(Access { tokens });
    let (status, _, _) = ask(&api, "GET", "/healthz", &[]).await;
    assert_eq!(status, 200);
    for path in ["/v1/chat/completions", "/v1/models/m", "/v1/none", "/"] {
        let (status, headers, body) = ask(&api, "POST", path, LOCAL).await;
        assert_eq!(status, 401, "{path}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], "missing_api_key");
    }
    let wrong = [("authorization", "Bearer other")];
    let (status, _, body) = ask(&api, "POST", "/v1/chat/completions", &wrong).await;
    assert_eq!(status, 401);
    assert!(body.contains("invalid_api_key") && !body.contains("other"), "{body}");
    let right = [("authorization", "Bearer secret")];
    let (status, _, body) = ask(&api, "POST", "/v1/chat/completions", &right).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ann"));
}

#[tokio::test]
async fn a_page_elsewhere_is_refused() {
    let api = api(Access::default());
    for (headers, code) in [
        (&[("host", "evil.test")][..], "foreign_host"),
        (&[("host", "localhost"), ("origin", "https://evil.test")], "foreign_origin"),
        (&[("host", "localhost"), ("x-forwarded-for", "203.0.113.9")], "not_local"),
    ] {
        let (status, _, body) = ask(&api, "POST", "/v1/chat/completions", headers).await;
        assert_eq!(status, 403);
        assert!(body.contains(code), "{body}");
    }
}

#[tokio::test]
async fn access_may_change_while_serving() {
    let now = Arc::new(std::sync::Mutex::new(Arc::new(Access::default())));
    let source = now.clone();
    let access: AccessSource =
        Arc::new(move || source.lock().map(|now| now.clone()).unwrap_or_default());
    let api = guarded(Router::new().route("/v1/models", get(|| async { "ok" })), access);
    assert_eq!(ask(&api, "GET", "/v1/models", LOCAL).await.0, 200);
    *now.lock().unwrap() = Arc::new(Access { tokens: vec![Token::new("ann", "secret")] });
    assert_eq!(ask(&api, "GET", "/v1/models", LOCAL).await.0, 401);
}

#[tokio::test]
async fn a_connection_whose_body_was_not_read_says_that_it_ends() {
    let open = api(Access::default());
    let closed = api(Access { tokens: vec![Token::new("somebody", "right")] });
    for (api, method, path, status) in [
        (&open, "POST", "/v1/none", 404),
        (&open, "DELETE", "/v1/chat/completions", 405),
        (&closed, "POST", "/v1/chat/completions", 401),
    ] {
        let (answered, headers, _) = ask(api, method, path, LOCAL).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(headers["connection"], "close", "{path}");
    }
    let (status, headers, _) = ask(&open, "POST", "/v1/chat/completions", LOCAL).await;
    assert_eq!((status.as_u16(), headers.get("connection")), (200, None));
}
