//! SecretInCopy: files that are secrets by their name.

use super::{Linter, Rule};
use crate::syntax::{Instruction, Spanned};

pub(super) const RULE: Rule = Rule::without_page(
    "SecretInCopy",
    "files with passwords and keys stay readable in the image, in every layer",
);

/// File names that hold secrets.
const NAMES: [&str; 13] = [
    ".env",
    ".npmrc",
    ".pypirc",
    ".netrc",
    ".git-credentials",
    ".dockercfg",
    ".htpasswd",
    ".pgpass",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "credentials.json",
];

/// Ends of paths that hold secrets.
const PATHS: [&str; 3] = [".aws/credentials", ".docker/config.json", ".kube/config"];

/// Extensions that hold private keys.
const EXTENSIONS: [&str; 5] = [".pem", ".key", ".p12", ".pfx", ".jks"];

/// Ends of names that are there to be shown.
const EXAMPLES: [&str; 5] = [".example", ".sample", ".template", ".dist", ".pub"];

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.stage_nodes() {
        let sources = match &node.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => &copy.transfer.sources,
            Instruction::Add(add) => &add.transfer.sources,
            _ => continue,
        };
        for source in sources.iter().filter(|source| is_secret(source)) {
            let message = format!("`{}` looks like a secret and would stay in the image", source.value);
            let finding =
                RULE.finding(message, source.span, "stays in a layer even if a later step removes it");
            linter.report(
                node,
                finding.with_help("give it to the step that needs it: `RUN --mount=type=secret,id=…`"),
            );
        }
    }
}

fn is_secret(source: &Spanned<String>) -> bool {
    let path = source.value.trim_matches(['"', '\'']);
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    if path.contains("://") || EXAMPLES.iter().any(|example| name.ends_with(example)) {
        return false;
    }
    let in_directory = |end: &str| path == end || path.ends_with(&format!("/{end}"));
    NAMES.contains(&name.as_str())
        || name.starts_with(".env.")
        || EXTENSIONS.iter().any(|extension| name.ends_with(extension))
        || PATHS.iter().any(|end| in_directory(end))
}
