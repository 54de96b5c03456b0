//! What Azure's errors say beyond OpenAI's.

use std::collections::BTreeMap;

use keyward_sdk::{Failure, FailureKind, Fault, ResponseHead};
use serde::Deserialize;

/// A failure with what only Azure says: which filters spoke, how long to wait, whose mistake a
/// missing path is.
pub fn explained(mut failure: Failure, head: Option<&ResponseHead>, body: &str) -> Failure {
    match failure.code.as_deref() {
        Some("OperationNotSupported") => failure = failure.with_kind(FailureKind::Unsupported),
        Some("DeploymentNotFound") => {
            failure = failure.with_kind(FailureKind::ModelNotFound);
            failure.message.push_str(
                " (A model is named by its deployment in the Azure resource; the setting \
                 `deployments` gives other names to deployments.)",
            );
        }
        _ if failure.message.contains("API version not supported") => {
            failure.kind = FailureKind::Other("endpoint".to_owned());
            failure.fault = Fault::Host;
        }
        _ => {}
    }
    if failure.kind == FailureKind::ContentBlocked {
        let filtered = filtered(body);
        if !filtered.is_empty() {
            failure.message = format!("{} (Filtered: {filtered}.)", failure.message);
        }
    }
    let told = |head: &ResponseHead| {
        head.header("retry-after").or_else(|| head.header("retry-after-ms")).is_some()
    };
    if failure.kind == FailureKind::RateLimited && !head.is_some_and(told) {
        failure.retry_after_ms = wait_ms(&failure.message);
    }
    failure.request_id = head
        .and_then(|head| head.header("apim-request-id").or_else(|| head.request_id()))
        .map(str::to_owned);
    failure
}

/// The filters that blocked a prompt, in words.
fn filtered(body: &str) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        innererror: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(alias = "content_filter_results")]
        content_filter_result: BTreeMap<String, serde_json::Value>,
    }
    let Ok(body) = serde_json::from_str::<Body>(body) else { return String::new() };
    let results = body.error.innererror.content_filter_result.into_iter();
    let names = results.filter(|(_, result)| result["filtered"] == true).map(|(name, result)| {
        match result["severity"].as_str() {
            Some(severity) => format!("{name}, {severity}"),
            None => name,
        }
    });
    names.collect::<Vec<_>>().join("; ")
}

/// "Please retry after 7 seconds." The host reads the headers, which aren't always there.
fn wait_ms(message: &str) -> Option<u64> {
    let after = ["retry after ", "Try again in "]
        .iter()
        .find_map(|words| message.split_once(words).map(|(_, after)| after))?;
    let (number, rest) = after.split_once(' ')?;
    let seconds: u64 = number.parse().ok()?;
    rest.starts_with("second").then(|| seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_words_is_read() {
        for (message, ms) in [
            ("... tier. Please retry after 7 seconds. Please go here", Some(7_000)),
            ("Rate limit is exceeded. Try again in 40 seconds.", Some(40_000)),
            ("Please retry after 1 second.", Some(1_000)),
            ("Please retry after a while.", None),
            ("Please retry after 5 minutes.", None),
            ("Please retry after", None),
        ] {
            assert_eq!(wait_ms(message), ms, "{message}");
        }
    }
}
