//! What a model's name tells of it.

/// True for models that Chat Completions doesn't serve.
pub fn in_responses_only(model: &str) -> bool {
    let of_gpt_or_o = model.starts_with("gpt-") || model.starts_with('o');
    let has = |word: &str| model.split('-').any(|part| part == word);
    of_gpt_or_o && (has("pro") || has("codex"))
        || model.contains("deep-research")
        || model.starts_with("computer-use")
}

/// True for models that take functions and an effort together through Responses only.
pub fn reasons_without_tools(model: &str) -> bool {
    gpt_version(model).is_some_and(|version| version >= (5, 4))
}

/// True for models that reason. Others refuse to be asked for what they reasoned.
pub fn reasons(model: &str) -> bool {
    let of_o =
        model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let of_gpt = gpt_version(model).is_some_and(|version| version >= (5, 0));
    of_o || of_gpt && !model.contains("-chat")
}

/// True for models that take prompt-cache marks.
pub fn takes_cache_marks(model: &str) -> bool {
    gpt_version(model).is_some_and(|version| version >= (5, 6))
}

/// (5, 4) of `gpt-5.4-mini`.
fn gpt_version(model: &str) -> Option<(u8, u8)> {
    let version = model.strip_prefix("gpt-")?.split('-').next()?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_which_api_serves_the_model_and_what_it_takes() {
        for (model, responses_only, no_tools, marks, reasoning) in [
            ("gpt-4o-mini", false, false, false, false),
            ("gpt-4.1", false, false, false, false),
            ("gpt-5", false, false, false, true),
            ("gpt-5.4-mini-2026-03-17", false, true, false, true),
            ("gpt-5.6-terra", false, true, true, true),
            ("gpt-5-pro", true, false, false, true),
            ("gpt-5.6-pro", true, true, true, true),
            ("gpt-5.1-codex-max", true, false, false, true),
            ("o3-pro-2025-06-10", true, false, false, true),
            ("o4-mini-deep-research", true, false, false, true),
            ("computer-use-preview", true, false, false, false),
            ("ft:gpt-4o-mini:acme::x", false, false, false, false),
            ("gpt-5.2-chat-latest", false, false, false, false),
            ("qwen-pro", false, false, false, false),
        ] {
            assert_eq!(in_responses_only(model), responses_only, "{model}");
            assert_eq!(reasons_without_tools(model), no_tools, "{model}");
            assert_eq!(takes_cache_marks(model), marks, "{model}");
            assert_eq!(reasons(model), reasoning, "{model}");
        }
    }
}
