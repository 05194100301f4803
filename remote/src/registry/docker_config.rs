//! Changing what a Docker configuration file says of credentials: `login` and `logout` in docker's own form.
//!
//! Everything else in the file stays as it is. Nothing here touches files or runs helpers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::keychain::{HUB_HOSTS, HUB_KEY, KeychainError};
use crate::transport::Secret;

/// The contents of a `config.json`.
#[derive(Clone, Default)]
pub struct DockerConfig(Map<String, Value>);

/// Returns the name under which docker keeps what it knows of a registry.
fn key_of(registry: &str) -> &str {
    if HUB_HOSTS.contains(&registry) { HUB_KEY } else { registry }
}

impl DockerConfig {
    /// Reads the file's text; an empty one says nothing.
    pub fn parse(json: &[u8]) -> Result<Self, KeychainError> {
        if json.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(json).map(Self).map_err(KeychainError::Config)
    }

    /// Returns the text to write.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.0).expect("JSON that was read can be written");
        text.push(b'\n');
        text
    }

    /// Returns the program that keeps the credentials of `registry`, where one does.
    pub fn helper(&self, registry: &str) -> Result<Option<String>, KeychainError> {
        let key = key_of(registry);
        let own =
            self.0.get("credHelpers").and_then(|helpers| helpers.get(registry).or_else(|| helpers.get(key)));
        let name = own.or_else(|| self.0.get("credsStore")).and_then(Value::as_str).unwrap_or_default();
        // The name becomes a program: it must not lead elsewhere.
        match name {
            "" => Ok(None),
            name if name.contains(['/', '\0']) => Err(KeychainError::Entry { key: name.to_owned() }),
            name => Ok(Some(format!("docker-credential-{name}"))),
        }
    }

    /// Puts user and password into the file.
    pub fn set(&mut self, registry: &str, username: &str, password: &Secret) {
        let auth = STANDARD.encode(format!("{username}:{}", password.expose()));
        self.insert(registry, json!({ "auth": auth }));
    }

    /// Notes that a helper keeps the credentials.
    pub fn set_kept_elsewhere(&mut self, registry: &str) {
        self.insert(registry, json!({}));
    }

    /// Takes the credentials of `registry` out and returns whether there were any.
    pub fn remove(&mut self, registry: &str) -> bool {
        let Some(auths) = self.0.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let keys = [key_of(registry), registry, &format!("https://{registry}")];
        let before = auths.len();
        for key in keys {
            auths.remove(key);
        }
        auths.len() < before
    }

    fn insert(&mut self, registry: &str, entry: Value) {
        let auths = self.0.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[key_of(registry)] = entry;
    }
}

/// Returns what a credential helper reads on its standard input to store credentials.
#[must_use]
pub fn helper_store_input(registry: &str, username: &str, password: &Secret) -> Vec<u8> {
    let value = json!({ "ServerURL": key_of(registry), "Username": username, "Secret": password.expose() });
    value.to_string().into_bytes()
}

/// Returns what a credential helper reads on its standard input to erase credentials.
#[must_use]
pub fn helper_erase_input(registry: &str) -> Vec<u8> {
    key_of(registry).as_bytes().to_vec()
}

impl std::fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerConfig").field("keys", &self.0.keys().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DockerConfig {
        DockerConfig::parse(text.as_bytes()).unwrap()
    }

    fn value(config: &DockerConfig) -> Value {
        serde_json::from_slice(&config.to_bytes()).unwrap()
    }

    #[test]
    fn the_rest_of_the_file_stays() {
        let mut config = parse(r#"{"auths":{"a":{"auth":"x"}},"psFormat":"y","proxies":{"default":{}}}"#);
        config.set("docker.io", "u", &"p:w".into());
        // `dTpwOnc=` is `u:p:w`.
        let expected = json!({
            "auths": {"a": {"auth": "x"}, "https://index.docker.io/v1/": {"auth": "dTpwOnc="}},
            "psFormat": "y",
            "proxies": {"default": {}},
        });
        assert_eq!(value(&config), expected);
        assert!(config.remove("docker.io") && !config.remove("docker.io"));
        assert_eq!(value(&config)["auths"], json!({"a": {"auth": "x"}}));
    }

    #[test]
    fn files_that_say_nothing_can_be_written_to() {
        for text in ["", "\n", "{}", r#"{"auths":null}"#] {
            let mut config = parse(text);
            config.set_kept_elsewhere("example.com:5000");
            assert_eq!(value(&config), json!({"auths": {"example.com:5000": {}}}), "{text}");
        }
        DockerConfig::parse(b"[]").unwrap_err();
    }

    #[test]
    fn helpers_are_found_and_are_plain_names() {
        let config = parse(r#"{"credsStore":"pass","credHelpers":{"gcr.io":"gcloud"}}"#);
        assert_eq!(config.helper("gcr.io").unwrap().as_deref(), Some("docker-credential-gcloud"));
        assert_eq!(config.helper("docker.io").unwrap().as_deref(), Some("docker-credential-pass"));
        assert_eq!(parse("{}").helper("docker.io").unwrap(), None);
        parse(r#"{"credsStore":"../x"}"#).helper("docker.io").unwrap_err();
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut config = DockerConfig::default();
        config.set("a", "user", &"hunter2".into());
        assert_eq!(format!("{config:?}"), r#"DockerConfig { keys: ["auths"] }"#);
    }
}
