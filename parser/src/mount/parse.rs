//! Reading a mount: keys in order, then what they may not be together.

use super::{Mount, MountKind, Sharing, size};
use crate::csv::{self, CsvError};
use crate::go::{self, clean};
use crate::suggest::did_you_mean;

pub(crate) const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Why a `--mount` value is refused; `E` is the error of the expansion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
#[non_exhaustive]
pub enum MountError<E = std::convert::Infallible> {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("{0}")]
    Expand(E),
    #[error("invalid field `{0}`: must be a key=value pair")]
    NotAPair(String),
    #[error("unexpected key `{key}` in `{field}`{}", hint(suggestion))]
    UnexpectedKey { key: String, field: String, suggestion: Option<String> },
    #[error("unexpected key `{key}` for mount type `{kind}`")]
    KeyOfOtherType { key: String, kind: MountKind },
    #[error("unsupported mount type `{value}`{}", hint(suggestion))]
    UnsupportedType { value: String, suggestion: Option<String> },
    #[error("unsupported sharing value `{value}`{}", hint(suggestion))]
    UnsupportedSharing { value: String, suggestion: Option<String> },
    #[error("invalid value for {key}: `{value}`")]
    InvalidValue { key: String, value: String },
    #[error("`from` doesn't support variable expansion, define alias stage instead")]
    VariableInFrom,
    #[error("{key} not allowed for `{kind}` type mounts")]
    NotAllowed { key: &'static str, kind: MountKind },
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount: one of source, target required")]
    SecretWithoutName,
    #[error("both source and id can't be set")]
    SourceAndId,
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfOtherType(MountKind),
    #[error("invalid mount target `/`")]
    RootTarget,
    #[error("ssh mount should not have a source")]
    SshSource,
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|suggestion| format!(", did you mean `{suggestion}`?")).unwrap_or_default()
}

impl Mount {
    /// Reads a value as it is.
    pub fn parse(value: &str) -> Result<Mount, MountError> {
        Mount::parse_with(value, |_, value| Ok(value.to_owned()))
    }

    /// Reads a value, expanding that of each key but `from` with `expand(key, value)`.
    pub fn parse_with<E>(
        value: &str,
        mut expand: impl FnMut(&str, &str) -> Result<String, E>,
    ) -> Result<Mount, MountError<E>> {
        let mut draft = Draft::default();
        for field in csv::fields(value)? {
            match field.split_once('=') {
                None => draft.set_word(&field.to_lowercase(), &field)?,
                Some((key, value)) => {
                    let key = key.to_lowercase();
                    let value = if key == "from" {
                        unexpanded(value)?
                    } else {
                        expand(&key, value).map_err(MountError::Expand)?
                    };
                    draft.set(&key, value, &field)?;
                }
            }
        }
        draft.finish()
    }
}

/// Returns the value of `from`; a `$` that could start a variable is refused.
fn unexpanded<E>(value: &str) -> Result<String, MountError<E>> {
    match value.find('$') {
        Some(dollar) if dollar + 1 != value.len() => Err(MountError::VariableInFrom),
        _ => Ok(value.to_owned()),
    }
}

/// A mount while its keys are read.
#[derive(Default)]
struct Draft {
    kind: MountKind,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    size: i64,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: bool,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Draft {
    /// Applies a field without `=`.
    fn set_word<E>(&mut self, key: &str, field: &str) -> Result<(), MountError<E>> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => return Err(MountError::NotAPair(field.to_owned())),
        }
        Ok(())
    }

    /// Applies a pair; an empty path or name counts as not given.
    fn set<E>(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError<E>> {
        let some = |value: String| Some(value).filter(|value| !value.is_empty());
        match key {
            "type" => self.kind = kind(value)?,
            "from" => self.from = some(value),
            "source" | "src" => self.source = some(value),
            "target" | "dst" | "destination" => self.target = some(value),
            "readonly" | "ro" => self.read_only = Some(boolean(key, value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(key, value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = boolean(key, value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.size = size::parse(&value).ok_or_else(|| invalid(key, value))?;
            }
            "id" => self.id = some(value),
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.mode = Some(number(key, value, 8)?),
            "uid" => self.uid = Some(owner(key, value)?),
            "gid" => self.gid = Some(owner(key, value)?),
            "env" => self.env = Some(value),
            _ => {
                let suggestion = did_you_mean(key, KEYS);
                return Err(MountError::UnexpectedKey {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    suggestion,
                });
            }
        }
        Ok(())
    }

    /// Refuses a key that the type given so far does not have; the type has to come first.
    fn only_for<E>(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError<E>> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::KeyOfOtherType { key: key.to_owned(), kind: self.kind })
    }

    fn finish<E>(self) -> Result<Mount, MountError<E>> {
        self.check_owner()?;
        self.check_secret()?;
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(MountError::SharingOfOtherType(self.kind));
        }
        if self.kind == MountKind::Ssh && self.source.is_some() {
            return Err(MountError::SshSource);
        }
        let needs_target = !matches!(self.kind, MountKind::Secret | MountKind::Ssh);
        if needs_target && self.target.as_deref().is_some_and(is_root) {
            return Err(MountError::RootTarget);
        }
        let writable = matches!(self.kind, MountKind::Cache | MountKind::Tmpfs);
        Ok(Mount {
            kind: self.kind,
            from: self.from,
            source: self.source,
            target: self.target,
            read_only: self.read_only.unwrap_or(!writable),
            size: self.size,
            id: self.id,
            sharing: self.sharing.unwrap_or_default(),
            required: self.required,
            env: self.env,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        })
    }

    fn check_owner<E>(&self) -> Result<(), MountError<E>> {
        let kind = self.kind;
        if matches!(kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache) {
            return Ok(());
        }
        let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(MountError::NotAllowed { key, kind }),
            None => Ok(()),
        }
    }

    fn check_secret<E>(&self) -> Result<(), MountError<E>> {
        if self.kind != MountKind::Secret {
            return Ok(());
        }
        if self.from.is_some() {
            return Err(MountError::SecretFrom);
        }
        if self.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        match (&self.source, &self.target, &self.id) {
            (None, None, None) => Err(MountError::SecretWithoutName),
            (Some(_), _, Some(_)) => Err(MountError::SourceAndId),
            _ => Ok(()),
        }
    }
}

/// Returns whether an absolute path comes down to `/`.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && clean(path) == "/"
}

fn kind<E>(value: String) -> Result<MountKind, MountError<E>> {
    let lower = value.to_lowercase();
    MountKind::ALL.into_iter().find(|kind| kind.name() == lower).ok_or_else(|| {
        let suggestion = did_you_mean(&value, MountKind::ALL.map(MountKind::name));
        MountError::UnsupportedType { value, suggestion }
    })
}

fn sharing<E>(value: String) -> Result<Sharing, MountError<E>> {
    let lower = value.to_lowercase();
    Sharing::ALL.into_iter().find(|sharing| sharing.name() == lower).ok_or_else(|| {
        let suggestion = did_you_mean(&value, Sharing::ALL.map(Sharing::name));
        MountError::UnsupportedSharing { value, suggestion }
    })
}

fn boolean<E>(key: &str, value: String) -> Result<bool, MountError<E>> {
    go::parse_bool(&value).ok_or_else(|| invalid(key, value))
}

fn number<E>(key: &str, value: String, base: u32) -> Result<u32, MountError<E>> {
    go::parse_u32(&value, base).ok_or_else(|| invalid(key, value))
}

/// The highest number is nobody: to the kernel it means “leave as it is”.
fn owner<E>(key: &str, value: String) -> Result<u32, MountError<E>> {
    go::parse_u32(&value, 10).filter(|id| *id != u32::MAX).ok_or_else(|| invalid(key, value))
}

fn invalid<E>(key: &str, value: String) -> MountError<E> {
    MountError::InvalidValue { key: key.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: MountKind) -> Mount {
        Draft { kind, ..Draft::default() }.finish::<()>().unwrap()
    }

    #[test]
    fn values_are_typed() {
        let some = |text: &str| Some(text.to_owned());
        let bind = mount(MountKind::Bind);
        for (value, expected) in [
            ("target=/a", Mount { target: some("/a"), ..bind.clone() }),
            (
                "type=bind,from=base,src=/x,dst=/a,rw",
                Mount {
                    from: some("base"),
                    source: some("/x"),
                    target: some("/a"),
                    read_only: false,
                    ..bind.clone()
                },
            ),
            (
                "TYPE=Bind,Destination=a,readonly=0",
                Mount { target: some("a"), read_only: false, ..bind.clone() },
            ),
            ("target=/a,from=x$", Mount { target: some("/a"), from: some("x$"), ..bind.clone() }),
            ("\"target=/a,b\"", Mount { target: some("/a,b"), ..bind.clone() }),
            (
                "type=cache,target=/c,id=x,sharing=LOCKED,mode=0700,uid=1,gid=2",
                Mount {
                    target: some("/c"),
                    id: some("x"),
                    sharing: Sharing::Locked,
                    mode: Some(0o700),
                    uid: Some(1),
                    gid: Some(2),
                    ..mount(MountKind::Cache)
                },
            ),
            (
                "type=cache,target=/c,ro",
                Mount { target: some("/c"), read_only: true, ..mount(MountKind::Cache) },
            ),
            (
                "type=tmpfs,target=/t,size=64m",
                Mount { target: some("/t"), size: 64 << 20, ..mount(MountKind::Tmpfs) },
            ),
            (
                "type=secret,id=s,required,env=S",
                Mount { id: some("s"), required: true, env: some("S"), read_only: true, ..secret() },
            ),
            ("type=ssh", Mount { read_only: true, ..mount(MountKind::Ssh) }),
            ("type=ssh,required=true", Mount { required: true, ..mount(MountKind::Ssh) }),
        ] {
            assert_eq!(Mount::parse(value), Ok(expected), "{value}");
        }
    }

    fn secret() -> Mount {
        let draft = Draft { kind: MountKind::Secret, id: Some("x".to_owned()), ..Draft::default() };
        Mount { id: None, ..draft.finish::<()>().unwrap() }
    }

    #[test]
    fn mistakes_are_named() {
        for (value, expected) in [
            ("", "the value is empty"),
            ("target", "invalid field `target`: must be a key=value pair"),
            ("tarrget=/a", "unexpected key `tarrget` in `tarrget=/a`, did you mean `target`?"),
            ("type=bnd", "unsupported mount type `bnd`, did you mean `bind`?"),
            ("type=cache,target=/a,sharing=lock", "unsupported sharing value `lock`, did you mean `locked`?"),
            ("target=/a,ro=maybe", "invalid value for ro: `maybe`"),
            ("target=/a,required", "unexpected key `required` for mount type `bind`"),
            ("size=1,type=tmpfs", "unexpected key `size` for mount type `bind`"),
            ("type=tmpfs,target=/a,size=big", "invalid value for size: `big`"),
            ("type=cache,target=/a,mode=999", "invalid value for mode: `999`"),
            ("type=cache,target=/a,uid=-1", "invalid value for uid: `-1`"),
            ("type=secret,id=a,gid=4294967295", "invalid value for gid: `4294967295`"),
            ("target=/a,mode=1", "mode not allowed for `bind` type mounts"),
            ("type=secret", "invalid secret mount: one of source, target required"),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=secret,id=a,sharing=private", "secret mount should not define sharing"),
            ("target=/a,sharing=private", "invalid cache sharing set for bind mount"),
            ("target=/a,from=$X", "`from` doesn't support variable expansion, define alias stage instead"),
            ("target=/", "invalid mount target `/`"),
            ("target=/a/../", "invalid mount target `/`"),
            ("type=ssh,source=/a", "ssh mount should not have a source"),
        ] {
            assert_eq!(Mount::parse(value).unwrap_err().to_string(), expected, "{value}");
        }
    }

    #[test]
    fn every_value_but_from_is_expanded() {
        let mut keys = Vec::new();
        let mount = Mount::parse_with("type=cache,Target=$X,from=base", |key, value| {
            keys.push(key.to_owned());
            Ok::<_, ()>(value.replace("$X", "/x"))
        });
        assert_eq!(mount.unwrap().target.as_deref(), Some("/x"));
        assert_eq!(keys, ["type", "target"]);
        assert_eq!(Mount::parse_with("id=a", |_, _| Err("no")), Err(MountError::Expand("no")));
    }
}
