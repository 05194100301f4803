//! What steps are called: `[build 2/5] RUN make`.

use mica_image::Platform;
use mica_parser::words::Variables;

use super::environment::Environment;

/// Numbers the steps of a stage as they are named.
#[derive(Debug, Clone, Default)]
pub(super) struct Titles {
    /// The stage's name; empty when it is the only one.
    pub(super) label: String,
    /// How many steps it has; none get a prefix when there are none.
    pub(super) total: usize,
    /// How many have been named.
    pub(super) done: usize,
    /// Whether the platform is told.
    pub(super) with_platform: bool,
}

impl Titles {
    /// Names the next step.
    pub(super) fn next(
        &mut self,
        text: &str,
        platform: &Platform,
        env: &Environment,
        is_trigger: bool,
    ) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.done += 1;
        let platform = match self.with_platform {
            true => format!("{platform}{} ", cross(platform, env)),
            false => String::new(),
        };
        let label = if self.label.is_empty() { String::new() } else { format!("{} ", self.label) };
        let (done, total) = (self.done, self.total);
        let width = total.to_string().len();
        let onbuild = if is_trigger { "ONBUILD " } else { "" };
        format!("[{platform}{label}{done:>width$}/{total}] {onbuild}{text}")
    }
}

/// Returns `->arm64` when the stage's arguments say that it builds for another platform than it runs on.
fn cross(base: &Platform, env: &Environment) -> String {
    let Some(target) = target_of(base, env) else { return String::new() };
    if target.os != base.os {
        return format!("->{target}");
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    let variant = if target.variant.is_empty() { String::new() } else { format!("/{}", target.variant) };
    format!("->{}{variant}", target.architecture)
}

fn target_of(base: &Platform, env: &Environment) -> Option<Platform> {
    let mut target = Platform::default();
    let mut is_set = false;
    for name in env.names() {
        let value = env.get(name).unwrap_or_default();
        let part = match name {
            "TARGETPLATFORM" => match Platform::parse(value) {
                Ok(platform) => return Some(platform),
                Err(_) => continue,
            },
            "TARGETOS" => &mut target.os,
            "TARGETARCH" => &mut target.architecture,
            "TARGETVARIANT" => &mut target.variant,
            _ => continue,
        };
        value.clone_into(part);
        is_set = true;
    }
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    is_set.then(|| target.normalized())
}

/// Returns a line with its first word, the keyword, in capitals.
pub(super) fn with_capitals(line: &str) -> String {
    match line.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => line.to_uppercase(),
    }
}

/// Returns the first line of a heredoc's body, with `...` when there are more.
pub(super) fn summary(body: &str) -> String {
    let body = body.trim();
    match body.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_stage_number_and_platform() {
        let platform = Platform::new("linux", "amd64", "");
        let mut env = Environment::default();
        let mut titles = Titles { label: "build".into(), total: 12, done: 0, with_platform: false };
        assert_eq!(titles.next("RUN x", &platform, &env, false), "[build  1/12] RUN x");
        titles.with_platform = true;
        assert_eq!(titles.next("RUN x", &platform, &env, true), "[linux/amd64 build  2/12] ONBUILD RUN x");
        env.set("TARGETARCH", "arm");
        env.set("TARGETVARIANT", "v6");
        assert_eq!(titles.next("RUN x", &platform, &env, false), "[linux/amd64->arm/v6 build  3/12] RUN x");
        env.set("TARGETPLATFORM", "linux/arm64");
        assert_eq!(
            titles.next("RUN x", &platform, &Environment::default(), false),
            "[linux/amd64 build  4/12] RUN x"
        );
        titles.label.clear();
        titles.with_platform = false;
        assert_eq!(titles.next("RUN x", &platform, &env, false), "[ 5/12] RUN x");
        assert_eq!(Titles::default().next("FROM x", &platform, &env, false), "FROM x");
    }

    #[test]
    fn heredocs_are_summed_up_by_their_first_line() {
        assert_eq!(summary("\n echo a\r\necho b\n"), "echo a...");
        assert_eq!(summary("echo a\n"), "echo a");
    }
}
