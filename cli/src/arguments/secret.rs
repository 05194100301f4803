//! The values of `--secret` and `--ssh`.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::csv;
use super::error::ArgumentError;
use crate::engine::request::SecretSource;
use crate::environment::Environment;

const SECRET: &str = "--secret";
const SSH: &str = "--ssh";

/// Parses one `--secret`: `id=NAME` and one of `src=FILE`, `env=VARIABLE`; with neither, the variable or file of that name.
///
/// Messages never hold a secret's value: what is shown is the flag as typed, which names files and variables only.
pub(super) fn secret(
    word: &str,
    environment: &dyn Environment,
) -> Result<(String, SecretSource), ArgumentError> {
    let invalid = |why: String| ArgumentError::value(SECRET, word, why);
    let (mut kind, mut id, mut path, mut variable) = (None, None, None, None);
    for field in csv::fields(word).map_err(|error| invalid(error.to_string()))? {
        let (key, value) = csv::key_value(&field)
            .ok_or_else(|| invalid(format!("`{field}` is not of the form key=value")))?;
        let value = value.to_owned();
        match key.as_str() {
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => {
                return Err(invalid(format!("there is no secret type `{value}`"))
                    .with_hint("the types are file and env"));
            }
            "id" => id = Some(value),
            "src" | "source" => path = Some(value),
            "env" => variable = Some(value),
            _ => {
                return Err(invalid(format!("there is no key `{key}`"))
                    .with_hint("the keys are id, src, env and type"));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        invalid("the id is missing".to_owned()).with_hint("a secret looks like `id=token,src=token.txt`")
    })?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = path.take();
    }
    let source = match (variable, path) {
        (Some(_), Some(_)) => return Err(invalid("`src` and `env` exclude each other".to_owned())),
        (Some(name), None) => value_of(&name, environment)
            .ok_or_else(|| invalid(format!("the environment variable `{name}` is not set")))?,
        (None, Some(path)) => SecretSource::File(PathBuf::from(path)),
        (None, None) => value_of(&id, environment).unwrap_or_else(|| SecretSource::File(PathBuf::from(&id))),
    };
    Ok((id, source))
}

/// Returns the secret in a variable of the environment.
pub(super) fn value_of(name: &str, environment: &dyn Environment) -> Option<SecretSource> {
    Some(SecretSource::Variable { name: name.to_owned(), value: environment.var(name)?.into_vec() })
}

/// Parses one `--ssh`: an id alone (the agent of `SSH_AUTH_SOCK`), or with a socket or key files.
pub(super) fn ssh(
    word: &str,
    environment: &dyn Environment,
) -> Result<(String, Vec<PathBuf>), ArgumentError> {
    let (id, paths) = match word.split_once('=') {
        Some((id, paths)) => {
            (id, paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect())
        }
        None => (word, Vec::new()),
    };
    let id = if id.is_empty() { "default" } else { id };
    if !paths.is_empty() {
        return Ok((id.to_owned(), paths));
    }
    let agent = environment.var("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| {
        ArgumentError::value(SSH, word, "no ssh agent is running: `SSH_AUTH_SOCK` is not set")
            .with_hint(format!("start one, or give a key: `--ssh {id}=$HOME/.ssh/id_ed25519`"))
    })?;
    Ok((id.to_owned(), vec![PathBuf::from(agent)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::values::tests::Fake;

    fn file(path: &str) -> SecretSource {
        SecretSource::File(path.into())
    }

    fn value(name: &str, text: &str) -> SecretSource {
        SecretSource::Variable { name: name.into(), value: text.into() }
    }

    #[test]
    fn secrets() {
        let environment = Fake::with(&[("TOKEN", "t0p"), ("npm", "n")]);
        let cases = [
            ("id=a,src=f", Ok(("a", file("f")))),
            ("id=a,source=f,type=file", Ok(("a", file("f")))),
            ("id=a,env=TOKEN", Ok(("a", value("TOKEN", "t0p")))),
            ("id=a,type=env,src=TOKEN", Ok(("a", value("TOKEN", "t0p")))),
            ("id=npm", Ok(("npm", value("npm", "n")))),
            ("id=other", Ok(("other", file("other")))),
            (r#"id=a,"src=x,y""#, Ok(("a", file("x,y")))),
            ("id=a,env=UNSET", Err("the environment variable `UNSET` is not set")),
            ("id=a,src=f,env=TOKEN", Err("`src` and `env` exclude each other")),
            ("src=f", Err("the id is missing")),
            ("id=a,type=vault", Err("there is no secret type `vault`")),
            ("id=a,mode=1", Err("there is no key `mode`")),
            ("a", Err("`a` is not of the form key=value")),
        ];
        for (word, expected) in cases {
            let expected = match expected {
                Ok((id, source)) => Ok((id.to_owned(), source)),
                Err(why) => Err(format!("`--secret {word}`: {why}")),
            };
            assert_eq!(secret(word, &environment).map_err(|error| error.to_string()), expected, "{word}");
        }
    }

    #[test]
    fn agents_and_keys() {
        let agent = Fake::with(&[("SSH_AUTH_SOCK", "/agent")]);
        let cases = [
            ("default", "default", vec!["/agent"]),
            ("default=", "default", vec!["/agent"]),
            ("", "default", vec!["/agent"]),
            ("git=/a,/b", "git", vec!["/a", "/b"]),
        ];
        for (word, id, paths) in cases {
            let expected = (id.to_owned(), paths.into_iter().map(PathBuf::from).collect());
            assert_eq!(ssh(word, &agent).unwrap(), expected, "{word}");
        }
        let error = ssh("default", &Fake::with(&[])).unwrap_err();
        assert!(error.to_string().contains("SSH_AUTH_SOCK"), "{error}");
    }
}
