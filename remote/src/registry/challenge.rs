//! `WWW-Authenticate`: what a registry asks for.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What must be shown to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from another server.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the challenges of a response and returns the one to answer: a token is preferred over a password.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut challenges: Vec<Self> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let best = challenges.iter().position(|challenge| *challenge != Self::Basic).unwrap_or(0);
        (best < challenges.len()).then(|| challenges.swap_remove(best))
    }
}

/// Reads one header, which may hold several challenges: `Scheme name="value", name=token, Scheme …`.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let length = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        if length == 0 {
            break;
        }
        let word = rest[..length].to_ascii_lowercase();
        rest = rest[length..].trim_start_matches(' ');
        match (rest.strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (value, after) = take_value(after.trim_start_matches(' '));
                parameters.push((word, value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => challenges.push((word, Vec::new())),
        }
    }
    challenges.into_iter().filter_map(|(scheme, parameters)| interpret(&scheme, parameters)).collect()
}

fn interpret(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let find = |wanted: &str| {
        parameters
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
            .filter(|v| !v.is_empty())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            Some(Challenge::Bearer { realm: find("realm")?, service: find("service"), scope: find("scope") })
        }
        _ => None,
    }
}

/// Takes a quoted string or a token off the front.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..length].to_owned(), &text[length..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], expected: Option<Challenge>) {
        let map = headers.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap())).collect();
        assert_eq!(Challenge::from_headers(&map), expected, "{headers:?}");
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_are_read() {
        check(&["Basic realm=\"x, y\""], Some(Challenge::Basic));
        check(
            &[r#"Bearer realm="https://a/token",service="reg",scope="repository:a/b:pull,push""#],
            bearer("https://a/token", Some("reg"), Some("repository:a/b:pull,push")),
        );
        check(&[r#"bearer Realm=https://a/t , SERVICE = "s""#], bearer("https://a/t", Some("s"), None));
        check(&[r#"Bearer realm="a\"b",error="invalid_token""#], bearer("a\"b", None, None));
    }

    #[test]
    fn a_token_is_preferred() {
        check(&["Basic realm=\"x\"", "Bearer realm=\"r\""], bearer("r", None, None));
        check(&["Basic realm=\"x\", Bearer realm=\"r\""], bearer("r", None, None));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in [
            "",
            "Bearer",
            "Bearer realm=\"\"",
            "Negotiate",
            "=,=",
            "realm=\"x\"",
            "Bearer realm=\"unterminated\\",
        ] {
            let map = [(WWW_AUTHENTICATE, text.parse().unwrap())].into_iter().collect();
            let challenge = Challenge::from_headers(&map);
            assert!(challenge.is_none() || text.contains("unterminated"), "{text}: {challenge:?}");
        }
    }
}
