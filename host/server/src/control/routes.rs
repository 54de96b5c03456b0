//! What can be asked and changed over the control socket.
//!
//! Every answer is JSON. A secret goes in and never comes out. Work that touches the disk runs off
//! the async threads.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::Timestamp;
use keyward::{
    Failure,
    catalog::{PluginStatus, ProviderState, describe_plugin},
    gateway::Gateway,
    metering::{Filter, GroupBy, Outcome, RowQuery, Span, SummaryQuery},
    vault::{KeySource, VaultState},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows in one answer.
const MAX_ROWS: usize = 10_000;

/// Who changes things here, for the audit log: whoever may open the socket.
const ACTOR: &str = "local";

/// The API under `/control/v1`.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/control/v1/status", get(status))
        .route("/control/v1/plugins", get(plugins))
        .route("/control/v1/plugins/{name}", get(plugin))
        .route("/control/v1/keys", get(keys))
        .route("/control/v1/keys/{provider}", put(set_key).delete(remove_key))
        .route("/control/v1/keys/{provider}/test", post(test_key))
        .route("/control/v1/usage", get(usage))
        .route("/control/v1/usage/rows", get(rows))
        .with_state(gateway)
}

struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.0.kind.as_str(), "message": self.0.message}});
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

async fn status(State(gateway): State<Gateway>) -> Json<Value> {
    let snapshot = gateway.snapshot();
    let providers: Vec<Value> = snapshot
        .providers
        .iter()
        .map(|(name, state)| match state {
            ProviderState::Ready(provider) => json!({
                "name": name.as_str(),
                "adapter": provider.plugin.name.as_str(),
                "kind": provider.kind,
                "models": provider.models().len(),
                "problem": provider.missing_key(),
            }),
            ProviderState::Unavailable { reason, .. } => {
                json!({"name": name.as_str(), "problem": reason})
            }
        })
        .collect();
    let sealed = match gateway.vault().state() {
        VaultState::Open { .. } => None,
        VaultState::Sealed(reason) => Some(reason.to_string()),
    };
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "config": snapshot.config.file().display().to_string(),
        "config_problem": snapshot.config_problem,
        "vault": {"sealed": sealed, "keys": gateway.vault().list().len()},
        "plugins": snapshot.plugins.iter().map(plugin_status).collect::<Vec<_>>(),
        "providers": providers,
        "usage_lost": gateway.meter().lost(),
    }))
}

fn plugin_status(status: &PluginStatus) -> Value {
    json!({
        "file": status.path.display().to_string(),
        "plugin": status.serving.as_deref().map(describe_plugin),
        "problem": status.problem.as_ref().map(|problem| &problem.reason),
    })
}

async fn plugins(State(gateway): State<Gateway>) -> Json<Value> {
    let snapshot = gateway.snapshot();
    let plugins: Vec<Value> = snapshot.plugins.iter().map(plugin_status).collect();
    Json(json!({"plugins": plugins}))
}

async fn plugin(State(gateway): State<Gateway>, Path(name): Path<String>) -> Answer {
    let snapshot = gateway.snapshot();
    let served = snapshot.plugins.iter().filter_map(|status| status.serving.as_deref());
    match served.into_iter().find(|plugin| plugin.name.as_str() == name) {
        Some(plugin) => Ok(Json(describe_plugin(plugin))),
        None => Err(Failure::invalid("name", format!("no adapter '{name}' is served")).into()),
    }
}

async fn keys(State(gateway): State<Gateway>) -> Json<Value> {
    let keys: Vec<Value> = gateway
        .keys()
        .into_iter()
        .map(|key| {
            json!({
                "provider": key.provider.as_str(),
                "field": key.field,
                "source": match &key.source {
                    KeySource::Vault => "vault".to_owned(),
                    KeySource::Environment(name) => format!("variable {name}"),
                    KeySource::File(path) => format!("file {}", path.display()),
                },
                "origin": key.origin,
                "state": match (key.present, key.required) {
                    (true, _) => "present",
                    (false, true) => "missing",
                    (false, false) => "optional",
                },
            })
        })
        .collect();
    let sealed = match gateway.vault().state() {
        VaultState::Open { .. } => None,
        VaultState::Sealed(reason) => Some(reason.to_string()),
    };
    Json(json!({"keys": keys, "sealed": sealed}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    secret: SecretString,
    field: Option<String>,
}

async fn set_key(
    State(gateway): State<Gateway>,
    Path(provider): Path<String>,
    Json(new): Json<NewKey>,
) -> Answer {
    let slot = gateway.set_key(&provider, new.field.as_deref(), new.secret, ACTOR).await?;
    Ok(Json(json!({"provider": provider, "field": slot.field(), "origin": slot.origin()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichField {
    field: Option<String>,
}

async fn remove_key(
    State(gateway): State<Gateway>,
    Path(provider): Path<String>,
    Query(which): Query<WhichField>,
) -> Answer {
    let removed = gateway.remove_key(&provider, which.field.as_deref(), ACTOR).await?;
    Ok(Json(json!({"removed": removed})))
}

async fn test_key(State(gateway): State<Gateway>, Path(provider): Path<String>) -> Json<Value> {
    Json(match gateway.probe(&provider).await {
        Ok(took) => json!({"ok": true, "ms": took.as_millis() as u64}),
        Err(failure) => {
            json!({"ok": false, "kind": failure.kind.as_str(), "message": failure.message})
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SummarySpan {
    since_s: u64,
    by: Grouping,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Grouping {
    Provider,
    Model,
    Caller,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowSpan {
    since_s: u64,
    limit: usize,
}

fn since(seconds: u64) -> Span {
    let since = Timestamp::now().checked_sub(Duration::from_secs(seconds)).ok();
    Span { since, until: None }
}

async fn usage(State(gateway): State<Gateway>, Query(span): Query<SummarySpan>) -> Answer {
    let by = match span.by {
        Grouping::Provider => GroupBy::Provider,
        Grouping::Model => GroupBy::Model,
        Grouping::Caller => GroupBy::Caller,
    };
    let query = SummaryQuery { span: since(span.since_s), filter: Filter::default(), by };
    Ok(Json(json!(gateway.usage(query).await?)))
}

async fn rows(State(gateway): State<Gateway>, Query(span): Query<RowSpan>) -> Answer {
    let query = RowQuery {
        span: since(span.since_s),
        filter: Filter::default(),
        limit: span.limit.min(MAX_ROWS),
        newest_first: true,
    };
    let rows: Vec<Value> = gateway
        .usage_rows(query)
        .await?
        .into_iter()
        .map(|row| {
            let (outcome, kind, fault) = match row.outcome {
                Outcome::Ok => ("ok", None, None),
                Outcome::Cancelled => ("cancelled", None, None),
                Outcome::Failed { kind, fault } => ("failed", Some(kind), Some(fault)),
            };
            json!({
                "when": row.started.to_string(),
                "request": row.request.to_string(),
                "attempt": row.attempt,
                "caller": row.caller,
                "provider": row.provider.as_str(),
                "model": row.model.as_str(),
                "operation": row.operation,
                "streamed": row.streamed,
                "outcome": outcome,
                "failure": kind,
                "fault": fault,
                "input_tokens": row.tokens.input,
                "cache_read_tokens": row.tokens.cache_read,
                "cache_write_tokens": row.tokens.cache_write,
                "output_tokens": row.tokens.output,
                "reasoning_tokens": row.tokens.reasoning,
                "units": row.units,
                "estimated": row.estimated,
                "cached": row.cached,
                "cost": row.charge.as_ref().map(|charge| charge.amount),
                "currency": row.charge.as_ref().map(|charge| charge.currency),
                "prices": row.charge.as_ref().map(|charge| &charge.prices),
                "unpriced": row.charge.as_ref().map(|charge| &charge.unpriced),
                "latency_us": row.latency.as_micros() as u64,
                "first_token_us": row.first_token.map(|time| time.as_micros() as u64),
                "overhead_us": row.overhead.as_micros() as u64,
                "vendor_request_id": row.vendor_request_id,
            })
        })
        .collect();
    Ok(Json(json!({"rows": rows, "lost": gateway.meter().lost()})))
}
