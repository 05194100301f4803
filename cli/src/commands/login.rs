//! `mica login` and `mica logout`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use mica_remote::Secret;

use super::exit::Failure;
use super::{say, setup};
use crate::arguments::{GlobalOptions, LoginArguments, LogoutArguments};
use crate::engine::login::{Kept, LoginError};
use crate::environment::Environment;
use crate::terminal;

/// Passwords are no longer than this; whatever is was not meant as one.
const PASSWORD_MAX: u64 = 64 << 10;

/// Checks user and password and keeps them.
pub(super) fn login(
    arguments: &LoginArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let registry = registry_name(&arguments.registry);
    let username = match &arguments.username {
        Some(name) => name.clone(),
        None if arguments.password_stdin => {
            return Err(Failure::plain("the user is missing")
                .with_hint(Some("with `--password-stdin` the user is given with `-u NAME`".to_owned())));
        }
        None => ask("Username: ", false)?,
    };
    let password = password(arguments)?;
    if username.is_empty() || password.expose().is_empty() {
        return Err(Failure::plain("user and password cannot be empty"));
    }
    let engine = setup::engine(global, environment)?;
    let login = engine.login(&registry, &username, &password, arguments.insecure);
    match setup::runtime()?.block_on(login).map_err(failure)? {
        Kept::File(path) => say(&format!(
            "logged in to {registry}; the password is in `{}`, and a credential helper (`credsStore`) would keep it elsewhere",
            path.display()
        )),
        Kept::Helper(program) => say(&format!("logged in to {registry}; `{program}` keeps the password")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Forgets them.
pub(super) fn logout(
    arguments: &LogoutArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let registry = registry_name(&arguments.registry);
    let engine = setup::engine(global, environment)?;
    match engine.logout(&registry).map_err(failure)? {
        true => say(&format!("logged out of {registry}")),
        false => say(&format!("there were no credentials for {registry}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// People paste addresses; a registry's name is its host.
fn registry_name(word: &str) -> String {
    let bare = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://")).unwrap_or(word);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn password(arguments: &LoginArguments) -> Result<Secret, Failure> {
    if let Some(password) = &arguments.password {
        say("warning: a password on the command line can be seen by others; use `--password-stdin`");
        return Ok(Secret::new(password.clone()));
    }
    if !arguments.password_stdin {
        return ask("Password: ", true).map(Secret::new);
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(PASSWORD_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::local("cannot read standard input", error))?;
    let without_end = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(without_end.strip_suffix('\r').unwrap_or(without_end)))
}

/// Asks the person at the terminal.
fn ask(prompt: &str, hidden: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::plain("standard input is not a terminal to ask at")
            .with_hint(Some("`mica login -u NAME --password-stdin REGISTRY < FILE`".to_owned())));
    }
    let failed = |error| Failure::local("cannot read from the terminal", error);
    let echo = if hidden { Some(terminal::without_echo(&stdin).map_err(failed)?) } else { None };
    let mut stderr = std::io::stderr();
    // A prompt that cannot be shown is no reason not to read the answer.
    let _ = stderr.write_all(prompt.as_bytes());
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(failed)?;
    if echo.is_some() {
        let _ = stderr.write_all(b"\n");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn failure(error: LoginError) -> Failure {
    let failure = Failure::of(&error).with_hint(error.hint());
    if error.is_unavailable() { failure.unavailable() } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_reduced_to_hosts() {
        for (word, expected) in [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://example.com/", "example.com"),
        ] {
            assert_eq!(registry_name(word), expected);
        }
    }
}
