//! Credentials, from the contents of a Docker configuration file and from credential helpers.
//!
//! The file is read by the front end and helpers are run by a function it hands over: nothing here touches files, the
//! environment or processes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::transport::Secret;

/// The name under which credentials for Docker Hub are kept.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";
pub(super) const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// What a registry is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for others.
    Identity(Secret),
    /// A token that is shown to the registry as it is.
    Registry(Secret),
}

/// Runs the credential helper `program` (`docker-credential-…`) with the argument `get` and the server on its standard input.
pub type HelperCommand = dyn Fn(&str, &str) -> io::Result<HelperAnswer> + Send + Sync;

/// What a credential helper said.
#[derive(Clone)]
pub struct HelperAnswer {
    /// Whether it succeeded.
    pub success: bool,
    /// Its standard output, which holds the secret.
    pub stdout: Vec<u8>,
}

/// Credentials that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// The configuration is not valid JSON.
    #[error("the docker configuration is not valid")]
    Config(#[source] serde_json::Error),
    /// An entry of the configuration makes no sense.
    #[error("the credentials for `{key}` in the docker configuration are not valid")]
    Entry {
        /// Its key.
        key: String,
    },
    /// A helper could not be run.
    #[error("cannot run the credential helper `{program}`")]
    Helper {
        /// The helper.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper failed. What it said is not repeated: it may hold the secret.
    #[error("the credential helper `{program}` has no answer for `{server}`")]
    Answer {
        /// The helper.
        program: String,
        /// What it was asked for.
        server: String,
    },
}

/// Where credentials are found.
#[derive(Clone, Default)]
pub struct Keychain {
    auths: BTreeMap<String, Credentials>,
    helpers: BTreeMap<String, String>,
    default_helper: Option<String>,
    run: Option<Arc<HelperCommand>>,
}

impl Keychain {
    /// Returns a keychain with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the contents of a `config.json` (or of podman's `auth.json`); `run` runs the helpers it names.
    pub fn from_docker_config(json: &[u8], run: Arc<HelperCommand>) -> Result<Self, KeychainError> {
        let file: ConfigFile = serde_json::from_slice(json).map_err(KeychainError::Config)?;
        let mut auths = BTreeMap::new();
        for (key, entry) in file.auths.unwrap_or_default() {
            if let Some(credentials) = entry.credentials(&key)? {
                auths.insert(normalize_key(&key), credentials);
            }
        }
        let helpers = file.cred_helpers.unwrap_or_default();
        Ok(Self {
            auths,
            helpers: helpers.into_iter().map(|(key, helper)| (normalize_key(&key), helper)).collect(),
            default_helper: file.creds_store.filter(|name| !name.is_empty()),
            run: Some(run),
        })
    }

    /// Adds credentials for a registry, before all others.
    #[must_use]
    pub fn with_credentials(mut self, registry: &str, credentials: Credentials) -> Self {
        let key = normalize_key(registry);
        self.helpers.remove(&key);
        self.auths.insert(key, credentials);
        self
    }

    /// Looks up what to show `registry` for `repository`. Running a helper may take a while and blocks.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>, KeychainError> {
        let host = normalize_key(registry);
        let own = self.entry(&host, repository);
        let helper = match self.helpers.get(&host) {
            Some(helper) => helper,
            // A store of all credentials leaves empty entries in the file; a full entry was put there on purpose.
            None if own.is_some() => return Ok(own.cloned()),
            None => match &self.default_helper {
                Some(helper) => helper,
                None => return Ok(None),
            },
        };
        let server = if HUB_HOSTS.contains(&host.as_str()) { HUB_KEY } else { registry };
        Ok(self.ask(helper, server)?.or_else(|| own.cloned()))
    }

    /// Returns the entry for the longest prefix of `host/repository`.
    fn entry(&self, host: &str, repository: &str) -> Option<&Credentials> {
        let full = format!("{host}/{repository}");
        let mut key = full.as_str();
        loop {
            if let Some(credentials) = self.auths.get(key) {
                return Some(credentials);
            }
            key = key.rsplit_once('/')?.0;
        }
    }

    fn ask(&self, helper: &str, server: &str) -> Result<Option<Credentials>, KeychainError> {
        let Some(run) = &self.run else { return Ok(None) };
        let program = format!("docker-credential-{helper}");
        let unanswered = || KeychainError::Answer { program: program.clone(), server: server.to_owned() };
        // The name comes from a file and becomes a program: it must not lead elsewhere.
        if helper.contains(['/', '\0']) {
            return Err(unanswered());
        }
        let answer = run(&program, server)
            .map_err(|source| KeychainError::Helper { program: program.clone(), source })?;
        if !answer.success {
            let said = String::from_utf8_lossy(&answer.stdout);
            return if said.contains("credentials not found") { Ok(None) } else { Err(unanswered()) };
        }
        let answer: HelperCredentials = serde_json::from_slice(&answer.stdout).map_err(|_| unanswered())?;
        Ok(answer.into_credentials())
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain")
            .field("auths", &self.auths.keys())
            .field("helpers", &self.helpers)
            .field("default_helper", &self.default_helper)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HelperAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelperAnswer").field("success", &self.success).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    fn credentials(self, key: &str) -> Result<Option<Credentials>, KeychainError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credentials::Identity(Secret::new(token))));
        }
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credentials::Registry(Secret::new(token))));
        }
        if let Some(auth) = given(self.auth) {
            let credentials =
                decode_auth(&auth).ok_or_else(|| KeychainError::Entry { key: key.to_owned() })?;
            return Ok(Some(credentials));
        }
        let (Some(username), Some(password)) = (given(self.username), given(self.password)) else {
            return Ok(None);
        };
        Ok(Some(Credentials::Basic { username, password: Secret::new(password) }))
    }
}

fn decode_auth(auth: &str) -> Option<Credentials> {
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Old versions padded the text with zeros.
    let password = Secret::new(password.trim_end_matches('\0'));
    Some(Credentials::Basic { username: username.to_owned(), password })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperCredentials {
    username: String,
    secret: String,
}

impl HelperCredentials {
    fn into_credentials(self) -> Option<Credentials> {
        let secret = Secret::new(self.secret);
        match self.username.as_str() {
            TOKEN_USER => Some(Credentials::Identity(secret)),
            "" => None,
            _ => Some(Credentials::Basic { username: self.username, password: secret }),
        }
    }
}

/// Reduces a key to host (and path, as podman has them): `https://index.docker.io/v1/` to `docker.io`.
fn normalize_key(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        Some(url) => url.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = key.split_once('/').map_or((key, ""), |(host, path)| (host, path));
    let host = if HUB_HOSTS.contains(&host) { "docker.io" } else { host };
    if path.is_empty() || matches!(path, "v1" | "v2") { host.to_owned() } else { format!("{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_helper() -> Arc<HelperCommand> {
        Arc::new(|program: &str, _: &str| panic!("{program} was run"))
    }

    fn basic(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.to_owned(), password: password.into() })
    }

    fn check(json: &str, registry: &str, repository: &str, expected: Option<Credentials>) {
        let keychain = Keychain::from_docker_config(json.as_bytes(), no_helper()).unwrap();
        assert_eq!(keychain.find(registry, repository).unwrap(), expected, "{registry}/{repository}");
    }

    #[test]
    fn entries_of_the_file_are_found() {
        // `dTpwOnc=` is `u:p:w`.
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpwOnc="},
            "example.com:5000":{"username":"a","password":"b"},
            "https://old.example.com/v1/":{"auth":"dTpw"},
            "quay.io/org":{"username":"org","password":"1"},
            "quay.io/org/app":{"username":"app","password":"2"},
            "id.example.com":{"auth":"dTpw","identitytoken":"t"},
            "empty.example.com":{}}}"#;
        check(json, "docker.io", "library/app", basic("u", "p:w"));
        check(json, "registry-1.docker.io", "x", basic("u", "p:w"));
        check(json, "example.com:5000", "x", basic("a", "b"));
        check(json, "example.com", "x", None);
        check(json, "old.example.com", "x", basic("u", "p"));
        check(json, "quay.io", "org/app", basic("app", "2"));
        check(json, "quay.io", "org/other", basic("org", "1"));
        check(json, "quay.io", "organic", None);
        check(json, "id.example.com", "x", Some(Credentials::Identity("t".into())));
        check(json, "empty.example.com", "x", None);
        check("{}", "docker.io", "x", None);
    }

    fn with_helper(json: &str, success: bool, stdout: &'static str) -> Keychain {
        let run = move |program: &str, server: &str| {
            assert_eq!((program, server), ("docker-credential-test", "https://index.docker.io/v1/"));
            Ok(HelperAnswer { success, stdout: stdout.as_bytes().to_vec() })
        };
        Keychain::from_docker_config(json.as_bytes(), Arc::new(run)).unwrap()
    }

    #[test]
    fn helpers_are_asked() {
        let store = r#"{"credsStore":"test","auths":{"https://index.docker.io/v1/":{}}}"#;
        let find = |json: &str, success: bool, stdout: &'static str| {
            with_helper(json, success, stdout).find("docker.io", "library/app")
        };
        let answer = r#"{"ServerURL":"x","Username":"u","Secret":"s"}"#;
        assert_eq!(find(store, true, answer).unwrap(), basic("u", "s"));
        assert_eq!(find(r#"{"credHelpers":{"docker.io":"test"}}"#, true, answer).unwrap(), basic("u", "s"));
        let token = r#"{"Username":"<token>","Secret":"s"}"#;
        assert_eq!(find(store, true, token).unwrap(), Some(Credentials::Identity("s".into())));
        assert_eq!(find(store, false, "credentials not found in native keychain\n").unwrap(), None);
        let error = find(store, false, "boom s3cret").unwrap_err().to_string();
        assert!(error.contains("docker-credential-test") && !error.contains("s3cret"), "{error}");
        find(store, true, "not json").unwrap_err();
    }

    #[test]
    fn a_helper_is_a_plain_name() {
        let json = br#"{"credsStore":"../../evil"}"#;
        Keychain::from_docker_config(json, no_helper()).unwrap().find("docker.io", "x").unwrap_err();
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in ["", "[]", r#"{"auths":{"x":{"auth":"!!!"}}}"#] {
            Keychain::from_docker_config(bad.as_bytes(), no_helper()).unwrap_err();
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keychain = Keychain::empty().with_credentials("docker.io", basic("user", "hunter2").unwrap());
        let found = keychain.find("docker.io", "x").unwrap();
        assert!(!format!("{keychain:?} {found:?}").contains("hunter2"));
    }
}
