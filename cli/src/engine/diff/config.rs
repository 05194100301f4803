//! Fields of two configurations that are different.

use std::collections::BTreeMap;

use mica_image::ImageConfig;
use serde_json::Value;

use super::DiffOptions;

/// One field that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ConfigChange {
    /// `config.Env PATH`, `config.Cmd`, `history 3` …
    pub field: String,
    /// Its value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Compares two configurations field by field.
pub(super) fn compare(before: &ImageConfig, after: &ImageConfig, options: DiffOptions) -> Vec<ConfigChange> {
    let (old, new) = (fields(before, options), fields(after, options));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| ConfigChange {
            field: name.clone(),
            before: old.get(name).cloned(),
            after: new.get(name).cloned(),
        })
        .collect()
}

fn fields(config: &ImageConfig, options: DiffOptions) -> BTreeMap<String, String> {
    let mut config = config.clone();
    // How it was made says nothing of what it is.
    config.forget_cache();
    let value = serde_json::to_value(&config).expect("a config is JSON");
    let mut fields = BTreeMap::new();
    flatten(String::new(), &value, &mut fields);
    if options.semantic {
        fields.retain(|name, _| !name.ends_with("created") && !name.starts_with("rootfs."));
    }
    fields
}

fn flatten(name: String, value: &Value, fields: &mut BTreeMap<String, String>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| flatten(below(key), value, fields)),
        Value::Array(items) if name == "config.Env" => {
            for item in items.iter().filter_map(Value::as_str) {
                let (variable, value) = item.split_once('=').unwrap_or((item, ""));
                fields.insert(format!("{name} {variable}"), value.to_owned());
            }
        }
        Value::Array(items) if name == "history" => {
            for (number, item) in items.iter().enumerate() {
                flatten(format!("{name} {:02}", number + 1), item, fields);
            }
        }
        Value::String(text) => {
            fields.insert(name, text.clone());
        }
        other => {
            fields.insert(name, other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_image::Timestamp;

    #[test]
    fn fields_are_named_and_times_can_be_left_out() {
        let mut before = ImageConfig { created: Some(Timestamp::from_unix(1, 0)), ..ImageConfig::default() };
        before.config.env = vec!["A=1".into(), "B=2".into()];
        let mut after = before.clone();
        after.created = Some(Timestamp::from_unix(2, 0));
        after.config.env = vec!["A=1".into(), "B=3".into()];
        after.config.cmd = vec!["sh".into()];
        let names = |options| -> Vec<String> {
            compare(&before, &after, options).into_iter().map(|change| change.field).collect()
        };
        assert_eq!(names(DiffOptions { semantic: true }), ["config.Cmd", "config.Env B"]);
        assert_eq!(names(DiffOptions::default()), ["config.Cmd", "config.Env B", "created"]);
        assert_eq!(compare(&before, &before, DiffOptions::default()), []);
    }
}
