//! What a model takes, told from its name.

/// True for models known not to think. Later ones are assumed to: they say so if they don't.
pub fn never_thinks(model: &str) -> bool {
    const FAMILIES: [&str; 5] =
        ["command-r", "command-a-03-2025", "command-a-vision", "command-a-translate", "c4ai-aya"];
    matches!(model, "command" | "command-light" | "command-nightly")
        || FAMILIES.iter().any(|family| model.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_models_are_known_not_to_think() {
        for (model, never) in [
            ("command-r7b-12-2024", true),
            ("command-r-plus-08-2024", true),
            ("command-a-03-2025", true),
            ("command-a-vision-07-2025", true),
            ("command-a-reasoning-08-2025", false),
            ("command-a-plus-05-2026", false),
            ("north-mini-code-06-2026", false),
        ] {
            assert_eq!(never_thinks(model), never, "{model}");
        }
    }
}
