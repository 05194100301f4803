//! Arguments of the commands that know about images: versions, differences, room.

use clap::Args;

/// `mica log`.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// The name of an image
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// The name of an image, or a version of it: `app@2`
    #[arg(value_name = "NAME[@VERSION]")]
    pub(crate) name: String,
    /// The version to go back to, as `@2` or `2` [default: the one before]
    #[arg(value_name = "@VERSION")]
    pub(crate) version: Option<String>,
}

impl RollbackArguments {
    /// Returns the name and the version, wherever it was given; `None` when it is no number.
    pub(crate) fn target(&self) -> Option<(&str, Option<u64>)> {
        if let Some(text) = &self.version {
            let number = text.strip_prefix('@').unwrap_or(text).parse().ok()?;
            return Some((&self.name, Some(number)));
        }
        match self.name.rsplit_once('@') {
            Some((name, text)) => Some((name, Some(text.parse().ok()?))),
            None => Some((&self.name, None)),
        }
    }
}

/// `mica history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// The image: name, `name@version` or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Keep the newest N versions of each name
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_versions: u32,
    /// Remove what was cached and not used for DAYS days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) unused_for: u32,
    /// Remove what was used least recently until the store takes no more than SIZE (`20g`); kept versions are never removed
    /// for it
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<String>,
    /// Remove all that is not needed for a kept version: the whole cache, and pulled images that have no name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Tell what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// `mica du`.
#[derive(Debug, Args)]
pub(crate) struct UsageArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// What is compared with: name, `name@version`, id, a name in a registry, or the path of an archive, layout or tar (beginning with
    /// `/` or `./`, and `:NAME` after it where it has several images); followed by `#3` its third layer alone, by `#..3` all up to that
    #[arg(value_name = "A")]
    pub(crate) before: String,
    /// What is compared
    #[arg(value_name = "B")]
    pub(crate) after: String,
    /// Leave out times, of files and of the image
    #[arg(long)]
    pub(crate) semantic: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica size`.
#[derive(Debug, Args)]
pub(crate) struct SizeArguments {
    /// The image: name, `name@version`, id, or the path of an archive, layout or tar
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica blame`.
#[derive(Debug, Args)]
pub(crate) struct BlameArguments {
    /// The image: name, `name@version`, id, or the path of an archive, layout or tar
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// A path in the image; of a directory every file is told
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// A step of the last build: `#7`, `stage:line`, or a stage [default: all]
    #[arg(value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mica plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// What would be built, as for `mica build`.
    #[command(flatten)]
    pub(crate) build: super::build::BuildArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_stand_in_either_place() {
        let target = |name: &str, version: Option<&str>| {
            let arguments = RollbackArguments { name: name.into(), version: version.map(str::to_owned) };
            arguments.target().map(|(name, version)| (name.to_owned(), version))
        };
        assert_eq!(target("app", None), Some(("app".into(), None)));
        assert_eq!(target("app@3", None), Some(("app".into(), Some(3))));
        assert_eq!(target("app", Some("@3")), Some(("app".into(), Some(3))));
        assert_eq!(target("app", Some("3")), Some(("app".into(), Some(3))));
        assert_eq!(target("app", Some("x")), None);
    }
}
