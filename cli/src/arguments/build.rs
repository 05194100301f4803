//! The flags of `mica build`: those of `docker build` and `docker buildx build`, with their names and short forms.
//!
//! Values are kept as typed; `request.rs` reads them. Switches take `=true` and `=false` as the reference's do.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::call::ProgressMode;
use super::unsupported::UnsupportedFlags;

const EXAMPLES: &str = "\
Examples:
  mica build -t app .                                    ./Dockerfile, files of this directory
  mica build -t app -f docker/Dockerfile.prod .          another Dockerfile
  mica build --target test .                             only what the stage `test` needs
  mica build --build-arg VERSION=1.2 -t app:1.2 .        set an ARG
  mica build --secret id=npmrc,src=$HOME/.npmrc .        for RUN --mount=type=secret,id=npmrc
  mica build --build-context shared=../shared .          for COPY --from=shared
  mica build -o out .                                    the image's files into ./out
  mica build -o type=oci,dest=app.tar -t app .           an OCI layout in one file
  mica build --push -t registry.example.com/app .        push it
  mica build --reproducible -t app .                     the same bytes from the same input
  mica build --check .                                   report mistakes, build nothing
  tar c src Dockerfile | mica build -t app -             context from standard input

Progress goes to standard error; `-q` prints the image id on standard output and nothing else.
The exit code is 0 when the build succeeded, 1 when it failed, 2 for a wrong command line.";

/// `mica build`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "mica build [OPTIONS] PATH | URL | -")]
pub(crate) struct BuildArguments {
    /// The files a build may copy: a directory, a tar archive, a URL of a git repository or tar archive, or `-` for
    /// standard input (a tar archive, or a Dockerfile alone)
    // Not required for clap, so that a missing one is explained.
    #[arg(value_name = "PATH | URL | -")]
    pub(super) context: Option<OsString>,
    #[command(flatten)]
    pub(super) input: InputFlags,
    #[command(flatten)]
    pub(super) image: ImageFlags,
    #[command(flatten)]
    pub(super) output: OutputFlags,
    #[command(flatten)]
    pub(super) cache: CacheFlags,
    #[command(flatten)]
    pub(super) run: RunFlags,
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    #[command(flatten)]
    pub(super) display: DisplayFlags,
    #[command(flatten)]
    pub(super) unsupported: UnsupportedFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is built")]
pub(super) struct InputFlags {
    /// The Dockerfile [default: PATH/Dockerfile]; `-` reads it from standard input
    #[arg(short, long, value_name = "PATH")]
    pub(super) file: Option<OsString>,
    /// Build this stage, and what it needs
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Set an ARG; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// Another context for FROM, COPY --from and RUN --mount: a directory, `docker-image://…`, `oci-layout://…`, a URL
    #[arg(long, value_name = "NAME=PLACE")]
    pub(super) build_context: Vec<String>,
    /// Build for these platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) platform: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The image")]
pub(super) struct ImageFlags {
    /// Name the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(super) tag: Vec<String>,
    /// Add a label; it wins over the Dockerfile's
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Make the same bytes from the same input: clamp times, give steps one locale and time zone, leave out logs and caches;
    /// `keep:` names what is left as it is (docs/reproducible.md lists it)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL | keep:ITEM[,ITEM]")]
    pub(super) reproducible: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputFlags {
    /// Also write the result: a directory, `-` for a tar of the files, `type=oci|docker|tar|local,dest=PATH`, or
    /// `type=registry,name=NAME`
    #[arg(short, long, value_name = "DIR | type=…,dest=…")]
    pub(super) output: Vec<String>,
    /// Push the image to the registry its name says; the same as `-o type=registry`
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) push: bool,
    /// Load the image into docker's daemon; the same as `-o type=docker`
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) load: bool,
    /// Annotate the image that is written or pushed; WHERE is `manifest`, `index`, `manifest-descriptor` or
    /// `index-descriptor`, and a platform in brackets
    #[arg(long, value_name = "[WHERE:]KEY=VALUE")]
    pub(super) annotation: Vec<String>,
    /// Attach what the image was made from: `true`, or `mode=min|max`, `builder-id=URI`
    #[arg(long, value_name = "true | mode=…")]
    pub(super) provenance: Vec<String>,
    /// Attach a list of the packages in the image: `true`
    #[arg(long, value_name = "BOOL")]
    pub(super) sbom: Vec<String>,
    /// Attach a statement: `type=provenance` with the keys of `--provenance`, or `type=sbom`
    #[arg(long, value_name = "type=…")]
    pub(super) attest: Vec<String>,
    /// Write digests and names of the result to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Write the image id to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Print nothing but the image id
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cache and registries")]
pub(super) struct CacheFlags {
    /// Run every step anew
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) no_cache: bool,
    /// Use a cache that was exported: a name in a registry, `type=registry,ref=…`, `type=local,src=…` or `type=s3,…`; several are asked in
    /// order
    #[arg(long, value_name = "NAME | type=…")]
    pub(super) cache_from: Vec<String>,
    /// Export what the build learned: a name in a registry, `type=registry,ref=…`, `type=local,dest=…` or `type=s3,…`, and `mode=max`
    /// for all stages; with `type=inline` the image carries it
    #[arg(long, value_name = "NAME | type=…")]
    pub(super) cache_to: Vec<String>,
    /// Run every step of these stages anew
    #[arg(long, value_name = "STAGE[,STAGE]")]
    pub(super) no_cache_filter: Vec<String>,
    /// Ask registries again what tags mean now
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) pull: bool,
    /// Use only images and sources that are here already; RUN steps keep their network
    #[arg(long)]
    pub(super) offline: bool,
    /// Refuse images, downloads and repositories that the lock file does not cover
    #[arg(long)]
    pub(super) locked: bool,
    /// The lock file [default: mica.lock beside the Dockerfile, or in PATH]
    #[arg(long, value_name = "FILE")]
    pub(super) lock_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What RUN steps are given")]
pub(super) struct RunFlags {
    /// A secret for RUN --mount=type=secret: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`
    #[arg(long, value_name = "id=…[,src=…|,env=…]")]
    pub(super) secret: Vec<String>,
    /// An ssh agent or keys for RUN --mount=type=ssh: `default`, `default=SOCKET`, `NAME=KEY[,KEY]`
    #[arg(long, value_name = "ID[=PATH]")]
    pub(super) ssh: Vec<String>,
    /// The network of RUN steps: `default`, `none` or `host`
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(super) network: String,
    /// A line of /etc/hosts
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub(super) add_host: Vec<String>,
    /// Let the Dockerfile use `network.host` or `security.insecure`
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,
    /// Keep programs from gaining privileges, for example by setuid
    #[arg(long)]
    pub(super) no_new_privileges: bool,
    /// What is done when a RUN fails: `shell` opens one where it failed, on this terminal
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) on_failure: Option<OnFailure>,
}

/// What is done when a RUN fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnFailure {
    /// A shell is opened in its sandbox.
    Shell,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitFlags {
    /// How many steps run at once
    #[arg(short, long, value_name = "N")]
    pub(super) jobs: Option<std::num::NonZeroUsize>,
    /// Limit RUN steps: memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) resource: Vec<String>,
    /// A resource limit of the kernel's: `nofile=1024:4096`
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimit: Vec<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,
    /// Put RUN steps below this control group
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup_parent: Option<String>,
    #[command(flatten)]
    pub(super) legacy: LegacyLimitFlags,
}

/// The older names of `--resource`.
#[derive(Debug, Args)]
pub(super) struct LegacyLimitFlags {
    #[arg(short, long, hide = true)]
    pub(super) memory: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub(super) memory_swap: Option<String>,
    #[arg(short, long, hide = true)]
    pub(super) cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpu_period: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub(super) cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpuset_mems: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Progress and checks")]
pub(super) struct DisplayFlags {
    /// How progress is shown [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(super) progress: Option<ProgressMode>,
    /// Write where the time of the build went: a page to look at, or JSON where FILE ends in `.json`; may be given several
    /// times [default FILE: mica-timings.html]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "mica-timings.html", value_name = "FILE")]
    pub(super) timings: Vec<PathBuf>,
    /// Check the Dockerfile and build nothing; the same as `--call=check`
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) check: bool,
    /// What is done: `build`, `check`, `outline` or `targets`, with `,format=text|json|sarif|github`
    #[arg(long, value_name = "METHOD[,format=…]")]
    pub(super) call: Option<String>,
}

impl ValueEnum for ProgressMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Tty, Self::Plain, Self::Json, Self::Quiet, Self::None]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(match self {
            Self::Json => clap::builder::PossibleValue::new("json").alias("rawjson"),
            other => clap::builder::PossibleValue::new(other.name()),
        })
    }
}
