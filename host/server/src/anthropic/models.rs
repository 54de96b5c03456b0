//! `GET /v1/models` as Anthropic's SDKs want it. The paths are OpenAI's as well: a caller that
//! sends `anthropic-version` gets this form.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use keyward::{Failure, FailureKind, gateway::ListedModel};
use serde::Serialize;

use super::error;
use crate::dialect::answer::as_json;

/// Models on a page where the caller doesn't say, and the most there are on one: as at Anthropic.
const PAGE: usize = 20;
const MAX_PAGE: usize = 1000;

/// True if the caller of a path that two dialects have speaks this one.
pub fn wanted(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    /// The epoch where nobody knows.
    created_at: String,
    lifecycle: &'static str,
}

impl<'a> From<&'a ListedModel> for Model<'a> {
    fn from(model: &'a ListedModel) -> Self {
        let seconds = model.created.and_then(|seconds| i64::try_from(seconds).ok());
        let created = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        Self {
            r#type: "model",
            id: model.id.as_str(),
            display_name: model.id.as_str(),
            created_at: created.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
            lifecycle: "active",
        }
    }
}

/// One page of the list.
pub fn list(models: &[ListedModel], uri: &Uri) -> Response {
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<Model<'a>>,
        has_more: bool,
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
    }

    match page(models, uri) {
        Ok((page, has_more)) => {
            let list = List {
                data: page.iter().map(Model::from).collect(),
                has_more,
                first_id: page.first().map(|model| model.id.as_str()),
                last_id: page.last().map(|model| model.id.as_str()),
            };
            as_json(serde_json::to_vec(&list).unwrap_or_default()).into_response()
        }
        Err(failure) => error::response(&failure),
    }
}

/// The page asked for, and whether there are more in that direction.
fn page<'a>(models: &'a [ListedModel], uri: &Uri) -> Result<(&'a [ListedModel], bool), Failure> {
    let (mut limit, mut from, mut to) = (PAGE, 0, models.len());
    let mut backwards = false;
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = || {
            let id = unescaped(value);
            models.iter().position(|model| model.id.as_str() == id).ok_or_else(|| {
                Failure::invalid(name, format!("Invalid '{name}': there is no such model here."))
            })
        };
        match name {
            "limit" => {
                limit =
                    value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(
                        || {
                            let why = format!("Invalid 'limit': expected 1 to {MAX_PAGE}.");
                            Failure::invalid("limit", why)
                        },
                    )?;
            }
            "after_id" => from = place()? + 1,
            "before_id" => (to, backwards) = (place()?, true),
            _ => {}
        }
    }
    let all = models.get(from..to).unwrap_or_default();
    let has_more = all.len() > limit;
    let page = match backwards {
        true => &all[all.len().saturating_sub(limit)..],
        false => &all[..all.len().min(limit)],
    };
    Ok((page, has_more))
}

/// A query's value without percent escapes.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|&byte| (byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'+', ..) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One model.
pub fn one(models: &[ListedModel], id: &str) -> Response {
    match models.iter().find(|model| model.id.as_str() == id) {
        Some(model) => {
            let model = serde_json::to_vec(&Model::from(model)).unwrap_or_default();
            as_json(model).into_response()
        }
        None => {
            let mut failure =
                Failure::invalid("model", format!("The model '{id}' doesn't exist here."));
            failure.kind = FailureKind::ModelNotFound;
            error::response(&failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use keyward::ids::{ModelName, ProviderName};
    use serde_json::{Value, json};

    use super::*;

    fn models(count: usize) -> Vec<ListedModel> {
        let model = |at: usize| ListedModel {
            id: ModelName::new(&format!("p/m:{at}")).unwrap(),
            provider: ProviderName::new("p").unwrap(),
            created: (at == 0).then_some(1_700_000_000),
        };
        (0..count).map(model).collect()
    }

    async fn ask(models: &[ListedModel], query: &str) -> (u16, Value) {
        let uri = format!("/v1/models{query}").parse().unwrap();
        let response = list(models, &uri);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn models_come_in_anthropics_form() {
        let (_, list) = ask(&models(2), "").await;
        let model = |id: &str, created: &str| {
            json!({
                "type": "model", "id": id, "display_name": id, "created_at": created,
                "lifecycle": "active",
            })
        };
        let expected = json!({
            "data": [
                model("p/m:0", "2023-11-14T22:13:20Z"), model("p/m:1", "1970-01-01T00:00:00Z")
            ],
            "has_more": false, "first_id": "p/m:0", "last_id": "p/m:1",
        });
        assert_eq!(list, expected);
        let (_, none) = ask(&[], "").await;
        assert_eq!(none, json!({"data": [], "has_more": false, "first_id": null, "last_id": null}));
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_both_directions() {
        let all = models(25);
        let (_, first) = ask(&all, "").await;
        assert_eq!(
            (first["data"].as_array().unwrap().len(), &first["has_more"]),
            (20, &json!(true))
        );
        let (_, second) = ask(&all, "?after_id=p%2Fm%3A19&limit=20").await;
        assert_eq!((&second["first_id"], &second["last_id"]), (&json!("p/m:20"), &json!("p/m:24")));
        assert_eq!(second["has_more"], false);
        let (_, before) = ask(&all, "?before_id=p/m:20&limit=3").await;
        assert_eq!((&before["first_id"], &before["last_id"]), (&json!("p/m:17"), &json!("p/m:19")));
        assert_eq!(before["has_more"], true);
        for wrong in ["?limit=0", "?limit=1001", "?limit=x", "?after_id=none"] {
            let (status, body) = ask(&all, wrong).await;
            assert_eq!((status, &body["type"]), (400, &json!("error")), "{wrong}");
        }
    }
}
